package routing

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestRetryDump(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []error
		want    error
		asked   int
	}{
		{"nothing changed", []error{nil}, nil, 1},
		{"changed once", []error{netlink.ErrDumpInterrupted, nil}, nil, 2},
		{"does not stop", []error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted}, netlink.ErrDumpInterrupted, maxDumpAttempts},
		{"another error", []error{unix.EMFILE}, unix.EMFILE, 1},
	} {
		asked := 0
		err := retryDump(func() error { asked++; return c.answers[asked-1] })
		if !errors.Is(err, c.want) || asked != c.asked {
			t.Errorf("%s: %v, asked %d times", c.name, err, asked)
		}
	}
}

// A process without a descriptor left knows nothing of interfaces, and must not
// say that one is gone.
func TestRoutesVerifyReturnsLookupError(t *testing.T) {
	r := Routes{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	if missing, err := r.Verify("knock-none"); err != nil || len(missing) != 1 {
		t.Errorf("of one that is not there: %q, %v", missing, err)
	}
	var usual unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	none := usual
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	missing, err := r.Verify("lo")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("of one that cannot be asked for: %q, %v", missing, err)
	}
}
