package filter

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// explain says what is to be done about an error of Open.
func explain(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier): // whose errno is that of a missing permission, too
		return fmt.Errorf("this kernel does not take the packet filter, which is for Linux 5.15 and later: %w", verifier)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("load a packet filter: %w; it needs CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), and a kernel that is not locked down", fs.ErrPermission)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: %w; it needs Linux 5.15 with CONFIG_BPF_SYSCALL", ErrUnsupported, err)
	default:
		return err
	}
}
