package sandbox

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Filters reports whether there is a filter for this architecture. Others have
// system calls with other names and argument sizes, which are untested.
func Filters() bool { return runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" }

// installFilter installs the filter for all threads.
func installFilter(c syscallList) error {
	info, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		return err
	}
	program, err := assemble(info, c)
	if err != nil {
		return err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}

	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}

	var pinned runtime.Pinner
	pinned.Pin(prog.Filter)
	defer pinned.Unpin()
	thread, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog))) //nolint:gosec // required by seccomp(2)
	switch {
	case errno != 0:
		return errno
	case thread != 0:
		return fmt.Errorf("thread %d has a filter of its own", thread)
	default:
		return nil
	}
}

// The offsets in struct seccomp_data (seccomp(2)), in bytes. Fields of 64 bits
// have their lower half first on the supported architectures.
const (
	dataNumber    = 0
	dataArch      = 4
	dataArguments = 16
	argumentSize  = 8
	word          = 4
)

// x32Bit is in the number of a call of amd64's other ABI (__X32_SYSCALL_BIT),
// whose numbers mean something else and which has the same name of
// architecture.
const x32Bit = 0x40000000

// assemble makes the filter for an architecture. Each call on a list is
// compared, and what follows a match ends in a verdict, so that what is
// compared afterwards is the call's number still.
func assemble(info *arch.Info, c syscallList) ([]bpf.Instruction, error) {
	allow := bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	kill := bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: dataArch, Size: word},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(info.ID), SkipTrue: 1},
		kill,
		bpf.LoadAbsolute{Off: dataNumber, Size: word},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32Bit, SkipFalse: 1},
		kill,
	}
	var failed error
	on := func(name string, then ...bpf.Instruction) {
		number, ok := info.SyscallNames[name]
		if !ok {
			return // arm64 has openat only where amd64 has open as well
		}
		if len(then) > math.MaxUint8 {
			failed = fmt.Errorf("the conditions of %s take %d instructions, more than a jump can skip", name, len(then))
			return
		}
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(number), SkipFalse: uint8(len(then))})
		program = append(program, then...)
	}

	for _, name := range c.allowed {
		on(name, allow)
	}
	for _, l := range c.argFiltered {
		on(l.name, l.compile()...)
	}
	for _, name := range killed {
		on(name, kill)
	}
	for _, name := range enosys {
		on(name, errnoReturn(unix.ENOSYS))
	}
	return append(program, errnoReturn(unix.EPERM)), failed
}

// errnoReturn makes a call fail.
func errnoReturn(e unix.Errno) bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(e)}
}

// A filteredCall is allowed if all conditions of one of its alternatives are
// true.
type filteredCall struct {
	name  string
	when  []alternative
	errno unix.Errno // otherwise; 0 means EPERM
}

type alternative []condition

// A condition is true if the bits of an argument that are in mask have the
// value.
type condition struct {
	argument    int
	mask, value uint64
}

// compile returns the instructions for a call of that number.
func (c *filteredCall) compile() (code []bpf.Instruction) {
	for _, a := range c.when {
		var checks []bpf.Instruction
		for _, cond := range a {
			checks = append(checks, cond.check()...)
		}
		// A failed check continues with the next alternative, behind the
		// verdict of this one.
		for i, in := range checks {
			if j, ok := in.(bpf.JumpIf); ok {
				j.SkipFalse = uint8(len(checks) - i)
				checks[i] = j
			}
		}
		code = append(append(code, checks...), bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
	}
	errno := c.errno
	if errno == 0 {
		errno = unix.EPERM
	}
	return append(code, errnoReturn(errno))
}

// check compares one half of the argument, or both.
func (c condition) check() (code []bpf.Instruction) {
	for half := range 2 {
		mask, value := uint32(c.mask>>(32*half)), uint32(c.value>>(32*half))
		if mask == 0 {
			continue
		}
		code = append(code, bpf.LoadAbsolute{Off: uint32(dataArguments + c.argument*argumentSize + half*word), Size: word})
		if mask != math.MaxUint32 {
			code = append(code, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: value})
	}
	return code
}

// equals is true if a 32-bit argument has the
// value.
func equals(argument int, value uint32) condition {
	return condition{argument, math.MaxUint32, uint64(value)}
}

// isZero is true if an argument of 64 bits is 0.
func isZero(argument int) condition { return condition{argument, math.MaxUint64, 0} }

// hasBits is true if an argument has all of the bits, lacksBits if it has none.
func hasBits(argument int, bits uint64) condition   { return condition{argument, bits, bits} }
func lacksBits(argument int, bits uint64) condition { return condition{argument, bits, 0} }

// oneOf is true if a 32-bit argument has one of
// the values.
func oneOf(argument int, values ...uint32) (when []alternative) {
	for _, v := range values {
		when = append(when, alternative{equals(argument, v)})
	}
	return when
}

// The arguments of socket(2). The second contains the type in these bits.
const (
	socketFamily, socketType, socketProtocol = 0, 1, 2

	typeMask = 0xf // SOCK_TYPE_MASK of linux/net.h
)

// sockets is true for sockets of a family and a type with one of the protocols.
func sockets(family, kind uint32, protocols ...uint32) (when []alternative) {
	for _, p := range protocols {
		when = append(when, alternative{equals(socketFamily, family), {socketType, typeMask, uint64(kind)}, equals(socketProtocol, p)})
	}
	return when
}

// anySocket is true for the sockets that a gateway may open.
func anySocket() []alternative {
	return slices.Concat(
		sockets(unix.AF_INET, unix.SOCK_STREAM, 0, unix.IPPROTO_TCP, unix.IPPROTO_MPTCP),
		sockets(unix.AF_INET6, unix.SOCK_STREAM, 0, unix.IPPROTO_TCP, unix.IPPROTO_MPTCP),
		sockets(unix.AF_INET, unix.SOCK_DGRAM, 0, unix.IPPROTO_UDP),
		sockets(unix.AF_INET6, unix.SOCK_DGRAM, 0, unix.IPPROTO_UDP),
		sockets(unix.AF_UNIX, unix.SOCK_STREAM, 0),
		sockets(unix.AF_UNIX, unix.SOCK_DGRAM, 0),
		sockets(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
	)
}
