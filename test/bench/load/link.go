//go:build linux

package load

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/test/netns/lab"
)

// Link is a lab.Wire in a process of its own, between two TUN devices whose
// files are descriptors 3 and 4, until it is asked to end. It says Ready when
// it begins.
type Link struct {
	lab.Wire
}

// firstDevice is the first descriptor that a process is handed over besides its
// three streams.
const firstDevice = 3

// Run implements Task; the result is a [2]lab.Carried, of what the first device
// sent and of what the second did.
func (l *Link) Run(out io.Writer) (any, error) {
	var devices [2]*os.File
	for i := range devices {
		// os.File.Fd makes the file blocking.
		if err := unix.SetNonblock(firstDevice+i, true); err != nil {
			return nil, fmt.Errorf("prepare device %d: %w", i, err)
		}
		devices[i] = os.NewFile(uintptr(firstDevice+i), fmt.Sprintf("device %d", i))
	}
	if _, err := fmt.Fprintln(out, Ready); err != nil {
		return nil, err
	}
	ctx, stop := untilAsked()
	defer stop()
	return l.Carry(ctx, devices)
}
