package packet

// A DropReason says why Parse rejects a packet, or a Reassembler a fragment.
// The zero value is NotDropped.
type DropReason uint8

// The reasons: first those of Parse, in the order of its checks.
const (
	NotDropped       DropReason = iota
	DropShort                   // shorter than an IP header
	DropVersion                 // neither IPv4 nor IPv6
	DropHeaderLength            // IPv4 header length below 20 bytes or beyond the packet
	DropLength                  // total, payload or UDP length contradicts the packet
	DropIPChecksum              // wrong IPv4 header checksum
	DropFragment                // any fragment, including the first and atomic ones; see Packet.Fragment
	DropOptions                 // IPv4 options
	DropExtension               // IPv6 extension headers
	DropAddress                 // impossible source address, or source equals destination
	DropProtocol                // neither TCP nor UDP nor ICMP
	DropTransport               // transport header truncated, or its own length is wrong
	DropPort                    // port 0
	DropChecksum                // wrong transport checksum

	// The reasons for fragments. Parse reports the first of them in place of
	// DropFragment; the others are the Reassembler's.
	DropTinyFragment    // the first TCP fragment lacks a part of the TCP header, or a later one has a part
	DropFragmentLength  // empty, not a multiple of 8 bytes before the last, or beyond MaxPacket
	DropFragmentOverlap // overlaps another fragment, or contradicts the end set by the last one
	DropFragmentLimit   // no memory left for it, or discarded to make room
	DropFragmentTimeout // the rest of its packet did not arrive in time

	numDropReasons
)

// NumDropReasons is the number of reasons, including NotDropped: the size of an
// array indexed by DropReason.
const NumDropReasons = int(numDropReasons)

var dropReasonNames = [NumDropReasons]string{
	"none", "short", "version", "header-length", "length", "ip-checksum", "fragment",
	"ip-options", "extension-header", "address", "protocol", "transport-header", "port-zero", "checksum",
	"fragment-tiny", "fragment-length", "fragment-overlap", "fragment-limit", "fragment-timeout",
}

// String returns the name of the reason, which is suitable as a metric label.
func (r DropReason) String() string {
	if int(r) < len(dropReasonNames) {
		return dropReasonNames[r]
	}
	return "unknown"
}
