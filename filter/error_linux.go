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
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; it needs CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), and a kernel that does not lock BPF down", err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: %w; it needs Linux 5.15 with CONFIG_BPF_SYSCALL", ErrUnsupported, err)
	default:
		return err
	}
}
