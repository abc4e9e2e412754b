package filter

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// explain adds to an error of Open what to do about it.
func explain(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier): // its errno may be that of a missing permission
		return fmt.Errorf("load the packet filter: the kernel rejects it; it needs Linux 5.15 or later: %w", verifier)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("load the packet filter: %w; it needs CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), and a kernel that is not locked down", fs.ErrPermission)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: %w; it needs Linux 5.15 with CONFIG_BPF_SYSCALL", ErrUnsupported, err)
	default:
		return err
	}
}
