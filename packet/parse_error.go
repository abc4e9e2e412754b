package packet

// A Fault is why Parse refuses a packet, or a Reassembler a fragment. The zero
// value means that there is none.
type Fault uint8

// The faults: first those of Parse, in the order in which it looks for them.
const (
	FaultNone         Fault = iota
	FaultShort              // shorter than an IP header
	FaultVersion            // neither IPv4 nor IPv6
	FaultHeaderLength       // IPv4 header length below 20 bytes or beyond the packet
	FaultLength             // total, payload or UDP length contradicts the packet
	FaultIPChecksum         // IPv4 header checksum
	FaultFragment           // any fragment, the first one and atomic ones too; see Packet.Fragment
	FaultOptions            // IPv4 options
	FaultExtension          // IPv6 extension headers
	FaultAddress            // a source that nobody can have, or source equals destination
	FaultProtocol           // neither TCP nor UDP nor ICMP
	FaultTransport          // transport header cut short or its own length wrong
	FaultPort               // port 0
	FaultChecksum           // transport checksum

	// The faults of fragments. Parse finds the first of them in place of
	// FaultFragment; the others are the Reassembler's.
	FaultTinyFragment    // TCP's first fragment lacks some of the TCP header, or another has some of it
	FaultFragmentLength  // empty, ends off the 8-byte grid before the last, or beyond MaxPacket
	FaultFragmentOverlap // overlaps another fragment, or contradicts where the last one ends
	FaultFragmentLimit   // no room for it, or thrown away to make room
	FaultFragmentTimeout // the rest of its packet did not come in time
	faultCount
)

// FaultCount is the number of faults, FaultNone included: the size of an array indexed by Fault.
const FaultCount = int(faultCount)

var faultNames = [FaultCount]string{
	"none", "short", "version", "header-length", "length", "ip-checksum", "fragment",
	"ip-options", "extension-header", "address", "protocol", "transport-header", "port-zero", "checksum",
	"fragment-tiny", "fragment-length", "fragment-overlap", "fragment-limit", "fragment-timeout",
}

// String returns the fault's name, a word fit for a metric label.
func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "unknown"
}
