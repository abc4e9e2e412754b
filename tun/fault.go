package tun

// A Fault is why Parse refuses a packet. The zero value means that there is none.
type Fault uint8

// The faults, in the order in which Parse looks for them.
const (
	FaultNone         Fault = iota
	FaultShort              // shorter than an IP header
	FaultVersion            // neither IPv4 nor IPv6
	FaultHeaderLength       // IPv4 header length below 20 bytes or beyond the packet
	FaultLength             // total, payload or UDP length contradicts the packet
	FaultIPChecksum         // IPv4 header checksum
	FaultFragment           // any fragment, the first one and atomic ones too
	FaultOptions            // IPv4 options
	FaultExtension          // IPv6 extension headers
	FaultAddress            // a source that nobody can have, or source equals destination
	FaultProtocol           // neither TCP nor UDP nor ICMP
	FaultTransport          // transport header cut short or its own length wrong
	FaultPort               // port 0
	FaultChecksum           // transport checksum
	faultCount
)

// FaultCount is the number of faults, FaultNone included: the size of an array indexed by Fault.
const FaultCount = int(faultCount)

var faultNames = [FaultCount]string{
	"none", "short", "version", "header-length", "length", "ip-checksum", "fragment",
	"ip-options", "extension-header", "address", "protocol", "transport-header", "port-zero", "checksum",
}

// String returns the fault's name, a word fit for a metric label.
func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "unknown"
}
