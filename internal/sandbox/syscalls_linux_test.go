package sandbox

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const testPID = 4711

// architectures are those of the packages.
var architectures = []*arch.Info{arch.X86_64, arch.AARCH64}

func TestSyscallsExist(t *testing.T) {
	t.Parallel()
	names := slices.Concat(allowed, enosys, killed)
	for _, c := range argFiltered(testPID) {
		names = append(names, c.name)
	}
	for _, n := range names {
		if !slices.ContainsFunc(architectures, func(a *arch.Info) bool { _, ok := a.SyscallNames[n]; return ok }) {
			t.Errorf("neither amd64 nor arm64 has %s", n)
		}
	}
}

func TestSyscallsAreDisjoint(t *testing.T) {
	t.Parallel()
	names := slices.Concat(allowed, enosys, killed)
	for _, c := range argFiltered(testPID) {
		names = append(names, c.name)
	}
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			t.Errorf("%s is listed twice", names[i])
		}
	}
}

// A kernel runs a filter on system calls of an architecture.
type kernel struct {
	*arch.Info
	vm *bpf.VM
}

func newKernel(t *testing.T, info *arch.Info) *kernel {
	t.Helper()
	program, err := assemble(info, syscallList{allowed, argFiltered(testPID)})
	if err != nil {
		t.Fatal(err)
	}
	const limit = 4096 // BPF_MAXINSNS
	if len(program) > limit {
		t.Errorf("the filter has %d instructions, more than %d", len(program), limit)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return &kernel{info, vm}
}

// call returns the verdict. (The machine of package bpf reads words with the
// highest byte first, so that is how they are written.)
func (k *kernel) call(t *testing.T, id arch.AuditArch, number uint32, arguments ...uint64) uint32 {
	t.Helper()
	words := []uint32{number, uint32(id), 0, 0}
	for _, a := range append(arguments, make([]uint64, 6-len(arguments))...) {
		words = append(words, uint32(a), uint32(a>>32))
	}
	var data []byte
	for _, w := range words {
		data = binary.BigEndian.AppendUint32(data, w)
	}
	verdict, err := k.vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}

const (
	allows = unix.SECCOMP_RET_ALLOW
	kills  = unix.SECCOMP_RET_KILL_PROCESS
	denies = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	lacks  = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
)

func TestFilterChecksArguments(t *testing.T) {
	t.Parallel()
	for _, info := range architectures {
		k := newKernel(t, info)
		for _, c := range []struct {
			name      string
			arguments []uint64
			want      uint32
		}{
			{"read", nil, allows},
			{"execve", nil, kills},
			{"syslog", nil, denies},
			{"clone3", nil, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},

			{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK, 0}, allows},
			{"socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, allows},
			{"socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, allows},
			{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, lacks},
			{"socket", []uint64{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, lacks},
			{"socket", []uint64{unix.AF_INET, unix.SOCK_RAW, 0}, lacks},
			{"socket", []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET, 0}, lacks},
			{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE}, allows},
			{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, lacks},
			{"socket", []uint64{unix.AF_PACKET, unix.SOCK_RAW, 0}, lacks},

			{"clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND}, allows},
			{"clone", []uint64{uint64(unix.SIGCHLD)}, denies},
			{"clone", []uint64{unix.CLONE_THREAD | unix.CLONE_NEWNET}, denies},
			{"mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allows},
			{"mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, denies},
			{"mprotect", []uint64{0, 4096, unix.PROT_EXEC}, denies},
			{"kill", []uint64{testPID}, allows},
			{"kill", []uint64{1}, denies},
			{"tgkill", []uint64{testPID, 9}, allows},
			{"tgkill", []uint64{testPID + 1, 9}, denies},
			{"fcntl", []uint64{3, unix.F_SETFL, unix.O_NONBLOCK}, allows},
			{"fcntl", []uint64{3, unix.F_DUPFD_CLOEXEC}, allows},
			{"fcntl", []uint64{3, unix.F_SETOWN, 1}, denies},
			{"fcntl", []uint64{3, unix.F_SETSIG, uint64(unix.SIGKILL)}, denies},
			{"bpf", []uint64{unix.BPF_MAP_UPDATE_ELEM}, allows},
			{"bpf", []uint64{unix.BPF_PROG_LOAD}, denies},
			{"ioctl", []uint64{3, unix.TUNSETFILTEREBPF}, allows},
			{"ioctl", []uint64{3, unix.TUNSETIFF}, denies},
			{"ioctl", []uint64{3, unix.TIOCSTI}, denies},
			{"prctl", []uint64{unix.PR_SET_DUMPABLE, 1}, denies},
			{"prlimit64", []uint64{0, unix.RLIMIT_NOFILE, 0, 1 << 40}, allows},
			{"prlimit64", []uint64{0, unix.RLIMIT_NOFILE, 1 << 40}, denies}, // lower half 0
		} {
			number, ok := info.SyscallNames[c.name]
			if !ok {
				t.Fatalf("%s has no %s", info.Name, c.name)
			}
			if got := k.call(t, info.ID, uint32(number), c.arguments...); got != c.want {
				t.Errorf("%s: %s(%#x): %#x, want %#x", info.Name, c.name, c.arguments, got, c.want)
			}
		}
	}
}

// An argument that a condition has loaded must not be taken for the number of a
// call.
func TestFilterDeniesUnlisted(t *testing.T) {
	t.Parallel()
	for _, info := range architectures {
		k := newKernel(t, info)
		for _, name := range []string{"socket", "clone", "bpf", "ioctl", "prctl", "kill"} {
			number := uint32(info.SyscallNames[name])
			for other := range uint64(512) {
				for at := range 3 {
					arguments := []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}
					arguments[at] = other
					got, want := k.call(t, info.ID, number, arguments...), holds(name, arguments)
					if (got == allows) != want {
						t.Errorf("%s: %s(%v): %#x, allowed should be %v", info.Name, name, arguments, got, want)
					}
				}
			}
		}
	}
}

// holds evaluates a call of the lists without a program.
func holds(name string, arguments []uint64) bool {
	for _, c := range argFiltered(testPID) {
		if c.name != name {
			continue
		}
		return slices.ContainsFunc(c.when, func(a alternative) bool {
			return !slices.ContainsFunc(a, func(c condition) bool { return arguments[c.argument]&c.mask != c.value })
		})
	}
	return false
}

func TestFilterKillsOtherABI(t *testing.T) {
	t.Parallel()
	k := newKernel(t, arch.X86_64)
	if got := k.call(t, arch.I386.ID, 3); got != kills { // read
		t.Errorf("i386: %#x", got)
	}
	if got := k.call(t, arch.X86_64.ID, x32Bit); got != kills { // read
		t.Errorf("x32: %#x", got)
	}
}
