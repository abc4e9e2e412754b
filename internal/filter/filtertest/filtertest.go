//go:build linux

// Package filtertest runs a filter's program on packets without a device, for
// tests (BPF_PROG_TEST_RUN).
package filtertest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/filter"
	"github.com/knockgw/knockgw/internal/testtool"
)

const (
	// ethernetHeader is what the kernel strips from a packet before it runs a
	// program of this type.
	ethernetHeader = 14
	// MaxPacket is the largest packet that the kernel runs a program on, in
	// bytes: with the kernel's own data around it, it must fit into a page.
	MaxPacket = 3000
)

// Require skips the test where filters cannot be loaded, and logs why.
func Require(tb testing.TB) {
	tb.Helper()
	f, err := New(filter.Options{})
	switch {
	case err == nil:
		if err := f.Close(); err != nil {
			tb.Error(err)
		}
	case os.Getenv(testtool.RequireVariable) == "1":
		tb.Fatal(err)
	default:
		tb.Skip(err)
	}
}

// A Filter is a filter.Filter whose program runs on the packets of a test.
type Filter struct {
	*filter.Filter

	program *ebpf.Program
	ticks   uint64
}

// New opens a filter. The caller closes it.
func New(o filter.Options) (*Filter, error) {
	f, err := filter.Open(o)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Dup(f.FD())
	if err != nil {
		return nil, err
	}
	p, err := ebpf.NewProgramFromFD(fd)
	if err != nil {
		return nil, err
	}
	return &Filter{Filter: f, program: p}, nil
}

// Close closes the filter.
func (f *Filter) Close() error {
	if err := f.program.Close(); err != nil {
		return err
	}
	return f.Filter.Close()
}

// Until calls Tick for the time since the last call, until now.
func (f *Filter) Until(now time.Duration) {
	for ; f.ticks < uint64(now/filter.TickInterval); f.ticks++ {
		f.Tick()
	}
}

// Drops runs the program on an IP packet. It reports whether the program drops
// it, and why. An empty packet, or one larger than MaxPacket, passes.
func (f *Filter) Drops(packet []byte) (reason string, drops bool, err error) {
	if len(packet) == 0 || len(packet) > MaxPacket {
		return "", false, nil
	}

	before, err := f.Counts()
	if err != nil {
		return "", false, err
	}
	kept, _, err := f.program.Test(frame(packet))
	if err != nil {
		return "", false, fmt.Errorf("%x: %w", packet, err)
	}
	after, err := f.Counts()
	if err != nil {
		return "", false, err
	}

	for i := range after {
		if after[i] != before[i] {
			reason = after[i].Reason.String()
		}
	}
	switch {
	case kept == 0 && reason == "":
		return "", true, fmt.Errorf("a packet was dropped and not counted")
	case kept != 0 && (reason != "" || int(kept) != len(packet)):
		return "", false, fmt.Errorf("a packet of %d bytes was cut to %d, or counted as %q", len(packet), kept, reason)
	}
	return reason, kept == 0, nil
}

// Time runs the program n times on a packet and returns what one run takes.
func (f *Filter) Time(packet []byte, n int) (time.Duration, error) {
	_, each, err := f.program.Benchmark(frame(packet), n, nil)
	return each, err
}

// frame puts a packet into an Ethernet frame of an unused type: of IP, the
// kernel requires complete headers.
func frame(packet []byte) []byte {
	b := make([]byte, ethernetHeader, ethernetHeader+len(packet))
	b[12], b[13] = 0x88, 0xb5 // IEEE 802, local experimental EtherType
	return append(b, packet...)
}
