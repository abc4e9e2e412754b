package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// ErrFormat means that the input is not a capture, or one of an unknown kind.
var ErrFormat = errors.New("neither pcap nor pcapng")

// ngMagic begins a pcapng file: the type of its section header block.
const ngMagic = 0x0a0d0d0a

// source is the common interface of both formats. The data is borrowed until
// the next call.
type source interface {
	ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error)
}

// A Reader reads the IP packets of a capture.
type Reader struct {
	in      *limitedReader
	source  source
	mixed   bool // pcapng states the link type with each packet
	link    layers.LinkType
	Skipped int // packets so far that were not IP
}

// NewReader reads the header of a capture. Its errors wrap ErrFormat. The
// capture may be compressed with gzip, which is decompressed no faster than it
// is read.
func NewReader(r io.Reader) (*Reader, error) {
	input, err := decompress(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	in := bufio.NewReader(input)
	magic, err := in.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}

	if binary.BigEndian.Uint32(magic) == ngMagic {
		ng, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return &Reader{in: input, source: ng, mixed: true}, nil
	}

	old, err := pcapgo.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !linkKnown(old.LinkType()) {
		return nil, fmt.Errorf("%w with a supported link type: it has type %d; Ethernet, raw IP, null and Linux cooked are supported",
			ErrFormat, old.LinkType())
	}
	return &Reader{in: input, source: old, link: old.LinkType()}, nil
}

// Next returns the next IP packet, which the caller owns, or io.EOF. It skips
// other packets and counts them in Skipped. The error at the end of a truncated
// capture is io.ErrUnexpectedEOF.
func (r *Reader) Next() (Record, error) {
	for {
		r.in.left = maxPerPacket
		data, info, err := r.source.ZeroCopyReadPacketData()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return Record{}, io.EOF
			}
			return Record{}, fmt.Errorf("read the capture: %w", err)
		}

		link := r.link
		if r.mixed {
			link, _ = info.AncillaryData[0].(layers.LinkType)
		}
		header, ok := linkHeader(link, data)
		if !ok {
			r.Skipped++
			continue
		}
		return Record{
			Time: info.Timestamp.In(time.UTC), Data: append([]byte(nil), data[header:]...),
			Length: max(info.Length, info.CaptureLength) - header,
		}, nil
	}
}

// Sizes of link layer headers in bytes, and the types that they contain.
const (
	ethernetHeader = 14
	vlanTag        = 4
	sllHeader      = 16
	sll2Header     = 20
	nullHeader     = 4

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
	dltRaw    = 12 // LinkTypeRaw on some systems
)

// linkKnown reports whether linkHeader supports a link type.
func linkKnown(link layers.LinkType) bool {
	switch link {
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, dltRaw, layers.LinkTypeEthernet,
		layers.LinkTypeLinuxSLL, layers.LinkTypeLinuxSLL2, layers.LinkTypeNull, layers.LinkTypeLoop:
		return true
	}
	return false
}

// linkHeader returns the size of the link layer header of an IP packet.
func linkHeader(link layers.LinkType, b []byte) (n int, ok bool) {
	switch link {
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, dltRaw:
	case layers.LinkTypeEthernet:
		n = ethernetHeader
		for len(b) >= n {
			t := binary.BigEndian.Uint16(b[n-2:])
			if t != etherVLAN && t != etherQinQ {
				if t != etherIPv4 && t != etherIPv6 {
					return 0, false
				}
				break
			}
			n += vlanTag
		}
	case layers.LinkTypeLinuxSLL:
		n = sllHeader
	case layers.LinkTypeLinuxSLL2:
		n = sll2Header
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		n = nullHeader
	default:
		return 0, false
	}
	if len(b) <= n {
		return 0, false
	}
	version := b[n] >> 4
	return n, version == 4 || version == 6
}
