package sandbox_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/sandbox"
)

// childVariable names what this test program does instead of running tests.
const childVariable = "KNOCKGW_SANDBOX_TEST"

// routesVariable makes the child keep the privileges to set routes.
const routesVariable = "KNOCKGW_SANDBOX_TEST_ROUTES"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		os.Exit(child(name))
	}
	os.Exit(m.Run())
}

// child enters the sandbox and makes one attempt in it. It prints "entered" and
// the result: "done", or an error.
func child(name string) int {
	o := sandbox.Options{}
	if os.Getenv(routesVariable) != "" {
		o.KeepRoutes = true
	} else if os.Getuid() == 0 {
		o.Account = &sandbox.Account{Name: "unprivileged", UID: unprivileged, GID: unprivileged}
	}
	busy(4) // threads before
	dir := os.Getenv("DIR")
	if err := sandbox.Enter(o); err != nil {
		fmt.Println("enter:", err)
		return 1
	}
	busy(8) // threads, some of them new
	fmt.Println("entered")
	err := attempts[name](dir)
	if err == nil {
		fmt.Println("done")
		return 0
	}
	fmt.Println(err)
	return 0
}

// unprivileged is the number of the unprivileged user and group of most systems.
const unprivileged = 65534

// busy blocks n threads in the kernel at once.
func busy(n int) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			ts := unix.NsecToTimespec(int64(10 * time.Millisecond))
			_ = unix.Nanosleep(&ts, nil)
		})
	}
	wg.Wait()
}

// attempts are what a child can attempt. Each gets its own directory.
var attempts = map[string]func(dir string) error{
	"nothing": func(string) error { return nil },

	"run a program": func(string) error { return exec.Command("/bin/true").Run() },
	"replace itself by a program": func(string) error {
		return syscall.Exec("/bin/true", []string{"true"}, nil)
	},
	"fork":           func(string) error { return filteredCall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0) },
	"fork by clone3": func(string) error { return filteredCall(unix.SYS_CLONE3, 0, 0, 0) },
	"trace":          func(string) error { return filteredCall(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1, 0) },
	"mount":          func(dir string) error { return unix.Mount("none", dir, "tmpfs", 0, "") },
	"make a mount":   func(string) error { return filteredCall(unix.SYS_FSOPEN, 0, 0, 0) },
	"change root":    func(dir string) error { return unix.Chroot(dir) },
	"enter a namespace of its own": func(string) error {
		return unix.Unshare(unix.CLONE_NEWUSER)
	},
	"load a module": func(string) error { return filteredCall(unix.SYS_FINIT_MODULE, 0, 0, 0) },
	"ask for keys":  func(string) error { return filteredCall(unix.SYS_KEYCTL, 0, 0, 0) },
	"become root":   func(string) error { return filteredCall(unix.SYS_SETUID, 0, 0, 0) },
	"use io_uring":  func(string) error { return filteredCall(unix.SYS_IO_URING_SETUP, 1, 0, 0) },

	"map memory that can be executed": func(string) error {
		_, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	},
	"signal another process": func(string) error { return unix.Kill(1, 0) },
	"load a BPF program":     func(string) error { return filteredCall(unix.SYS_BPF, unix.BPF_PROG_LOAD, 0, 0) },
	"make a BPF table":       func(string) error { return filteredCall(unix.SYS_BPF, unix.BPF_MAP_CREATE, 0, 0) },
	"make a device":          func(dir string) error { return unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, 0x103) },
	"open another device":    func(string) error { return filteredCall(unix.SYS_IOCTL, 0, unix.TUNSETIFF, 0) },
	"lift a limit": func(string) error {
		return unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}, nil)
	},
	"rename the host": func(string) error { return unix.Sethostname([]byte("x")) },

	"packet socket":          socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
	"raw IPv4 socket":        socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP),
	"raw IPv6 socket":        socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_TCP),
	"netfilter's netlink":    socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER),
	"audit's netlink":        socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT),
	"vsock socket":           socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"bluetooth socket":       socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 0),
	"kernel cryptography":    socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
	"XDP socket":             socket(unix.AF_XDP, unix.SOCK_RAW, 0),
	"question about routes":  socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE),
	"pair of packet sockets": func(string) error { _, err := unix.Socketpair(unix.AF_PACKET, unix.SOCK_RAW, 0); return err },
	"change routes":          changeRoutes,
	"die of a signal": func(string) error {
		err := unix.Kill(os.Getpid(), unix.SIGTERM)
		time.Sleep(childTime) // any thread may receive it
		return err
	},
	"write and replace a file": replaceFile,
	"TCP to itself":            talk("tcp", "127.0.0.1:0"),
	"TCP over IPv6":            talk("tcp", "[::1]:0"),
	"unix socket": func(dir string) error {
		return talk("unix", filepath.Join(dir, "socket"))("")
	},
	"serve metrics": serve,
	"look up a name": func(string) error {
		_, err := (&net.Resolver{PreferGo: true}).LookupHost(t0(), "localhost")
		return err
	},
	"look up a name in C": func(string) error {
		if err := os.Setenv("GODEBUG", "netdns=cgo"); err != nil {
			return err
		}
		_, err := net.DefaultResolver.LookupHost(t0(), "localhost")
		return err
	},
	"UDP to itself": func(string) error {
		to, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer to.Close()
		from, err := net.Dial("udp", to.LocalAddr().String())
		if err != nil {
			return err
		}
		defer from.Close()
		if _, err := from.Write([]byte("x")); err != nil {
			return err
		}
		if err := to.SetReadDeadline(time.Now().Add(childTime)); err != nil {
			return err
		}
		_, _, err = to.ReadFrom(make([]byte, 1))
		return err
	},
	"make many threads busy": func(string) error { busy(200); return nil },
}

func filteredCall(number, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func socket(family, kind, protocol int) func(string) error {
	return func(string) error {
		fd, err := unix.Socket(family, kind, protocol)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}
}

// replaceFile writes a file like the state, the audit log and profiles.
func replaceFile(dir string) error {
	f, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return err
	}
	_, err = f.WriteString("text")
	err = errors.Join(err, f.Truncate(3), f.Sync(), f.Chmod(0o600), f.Close())
	path := filepath.Join(dir, "file")
	if err = errors.Join(err, os.Rename(f.Name(), path)); err != nil {
		return err
	}
	if _, err = os.ReadFile(path); err != nil {
		return err
	}
	if _, err = os.ReadDir(dir); err != nil {
		return err
	}
	return os.Remove(path)
}

func talk(network, address string) func(string) error {
	return func(string) error {
		l, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}()
		c, err := net.DialTimeout(network, l.Addr().String(), time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		return err
	}
}

func serve(string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b, _ := os.ReadFile("/proc/self/limits") // like the process collector of metrics
		w.Write(b)
	})}
	defer s.Close()
	go s.Serve(l)
	r, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && !strings.Contains(string(b), "Max") {
		err = fmt.Errorf("%s: %s", r.Status, b)
	}
	return err
}
