package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newTerminal opens a pseudo-terminal: what is written to one end can be read
// from the other.
func newTerminal(t *testing.T) (program, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this test needs a terminal: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("unlock a terminal: %v", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, person.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		t.Skipf("open a terminal: %v", errno)
	}
	program = os.NewFile(fd, "terminal")
	t.Cleanup(func() { _ = program.Close() })
	return program, person
}

func TestForwardNotesPlainText(t *testing.T) {
	const end = "end\n"
	for address, want := range map[string]string{
		"10.77.0.1:5432": "10.77.0.1:5432 (PostgreSQL) is not encrypted by knockgw; use the protocol's own TLS",
		"[fd77::1]:80":   "[fd77::1]:80 (HTTP) is not encrypted by knockgw; use the protocol's own TLS",
		"10.77.0.1:22":   "", "10.77.0.1:443": "", "10.77.0.1:54320": "", "80": "",
	} {
		program, person := newTerminal(t)
		notePlainText(program, address)
		if _, err := program.WriteString(end); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		for chunk := make([]byte, 1024); !strings.Contains(b.String(), "end"); {
			n, err := person.Read(chunk)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(chunk[:n])
		}
		if got := b.String(); !strings.Contains(got, want) || strings.Count(got, "\n") > 2 || want == "" && !strings.HasPrefix(got, "end") {
			t.Errorf("%s: %q", address, got)
		}

		var file bytes.Buffer
		if notePlainText(&file, address); file.Len() != 0 {
			t.Errorf("%s: a program is told %q", address, file.String())
		}
	}
}
