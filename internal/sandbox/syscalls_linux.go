package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// A syscallList contains the system calls that are allowed: with any arguments,
// or with some arguments only.
type syscallList struct {
	allowed     []string
	argFiltered []filteredCall
}

// gatewayCalls returns the system calls of a running gateway.
func gatewayCalls() syscallList { return syscallList{allowed, argFiltered(os.Getpid())} }

// routesCalls returns the system calls of the process that restores routes. It
// opens no file, makes no connection, and receives messages from its parent and
// the kernel only.
func routesCalls() syscallList {
	return syscallList{
		allowed: []string{
			// Its pipe and its log, which are open, and netlink sockets; see
			// also socket below.
			"read", "write", "close", "bind", "sendto", "recvfrom", "recvmsg", "sendmsg", "getsockname",
			"setsockopt", "getsockopt", "poll", "ppoll",

			// The runtime, as in a gateway.
			"epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2",
			"futex", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday",
			"sched_yield", "sched_getaffinity", "restart_syscall", "getrandom",
			"getpid", "gettid", "exit", "exit_group",
			"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
			"munmap", "madvise", "brk", "set_robust_list", "rseq",
		},
		argFiltered: append(commonArgFiltered(os.Getpid()),
			filteredCall{name: "socket", when: sockets(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE), errno: unix.EAFNOSUPPORT},
		),
	}
}

// allowed are the system calls that a running gateway makes with any arguments.
// Names that an architecture does not have are left out there. Give the reason
// for each addition; the gateways of test/netns run with this list.
var allowed = []string{
	// Open descriptors: packets, connections, files.
	"read", "write", "readv", "writev", "pread64", "pwrite64", "close", "lseek",
	"fstat", "ftruncate", "fallocate", "fsync", "fdatasync", "flock", "getdents64",

	// The runtime's poller and its wake-ups.
	"epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2",

	// The runtime's scheduler, its clocks where there is no vDSO, its signals.
	"futex", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday",
	"sched_yield", "sched_getaffinity", "restart_syscall", "getrandom",
	"getpid", "gettid", "exit", "exit_group",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",

	// Memory; for mmap and mprotect see commonArgFiltered.
	"munmap", "madvise", "brk",

	// Connections to upstreams and resolvers, the metrics and control sockets,
	// notices to the service manager; for socket see argFiltered.
	"bind", "listen", "accept4", "connect", "shutdown", "getsockname", "getpeername",
	"setsockopt", "getsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg",

	// The state directory, the audit log, a reload, /etc/resolv.conf, time
	// zones, /proc/self.
	"openat", "newfstatat", "readlinkat", "renameat", "unlinkat", "mkdirat", "fchmod", "fchmodat",

	// Identity, and the version of the kernel.
	"getuid", "geteuid", "getgid", "getegid", "uname",

	// Builds with cgo: threads and the resolver of the C library.
	"set_robust_list", "rseq", "poll", "ppoll",
}

// anyNamespace are the flags of clone(2) that create a namespace.
const anyNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

// argFiltered returns the calls of a gateway that are allowed with some
// arguments only. pid is the number of this process.
func argFiltered(pid int) []filteredCall {
	return append(commonArgFiltered(pid), []filteredCall{
		// TCP, UDP and unix sockets; and route queries, which take no
		// privileges: a reload checks whether an upstream would be reached
		// through the device.
		{name: "socket", when: anySocket(), errno: unix.EAFNOSUPPORT},
		// The maps of the packet filter, which are open; no new program or map.
		{name: "bpf", when: oneOf(0, unix.BPF_MAP_LOOKUP_ELEM, unix.BPF_MAP_UPDATE_ELEM, unix.BPF_MAP_DELETE_ELEM)},
		// Detaching the filter from the device; the device's MTU, when the
		// kernel reports a change.
		{name: "ioctl", when: oneOf(1, unix.TUNSETFILTEREBPF, unix.SIOCGIFMTU)},
		// Reading this process's limits, but not setting any.
		{name: "prlimit64", when: []alternative{{equals(0, 0), isZero(2)}}},
	}...)
}

// commonArgFiltered returns the calls of all Go programs that are allowed with
// some arguments only. pid is the number of this process.
func commonArgFiltered(pid int) []filteredCall {
	return []filteredCall{
		// Threads, but no processes.
		{name: "clone", when: []alternative{{hasBits(0, unix.CLONE_THREAD), lacksBits(0, anyNamespace)}}},
		// Memory that is not executable.
		{name: "mmap", when: []alternative{{lacksBits(2, unix.PROT_EXEC)}}},
		{name: "mprotect", when: []alternative{{lacksBits(2, unix.PROT_EXEC)}}},
		// Signals to this process: the runtime preempts its threads, and exits
		// by the signal that it received.
		{name: "tgkill", when: oneOf(0, uint32(pid))},
		{name: "kill", when: oneOf(0, uint32(pid))},
		// Flags and copies of descriptors; but no owner, which would receive
		// arbitrary signals.
		{name: "fcntl", when: oneOf(1, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD, unix.F_DUPFD_CLOEXEC)},
		// Names for the runtime's memory.
		{name: "prctl", when: oneOf(0, unix.PR_SET_VMA)},
	}
}

// enosys are calls that fail with ENOSYS, because their callers have a
// fallback. The C library falls back from clone3 to clone, whose arguments can
// be checked; Go copies by itself.
var enosys = []string{"clone3", "statx", "sendmmsg", "splice", "sendfile", "copy_file_range", "openat2", "faccessat2", "epoll_pwait2", "renameat2"}

// killed are calls that nothing in a gateway makes. An attacker who makes one
// must not get another try: the process dies of SIGSYS, the kernel logs it, and
// the blackhole routes keep the addresses silent.
var killed = []string{
	"execve", "execveat", "fork", "vfork",
	"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd",
	"mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick", "mount_setattr",
	"unshare", "setns", "name_to_handle_at", "open_by_handle_at",
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff",
	"keyctl", "add_key", "request_key",
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset",
	"memfd_create", "memfd_secret", "userfaultfd", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"iopl", "ioperm", "modify_ldt", "personality", "acct", "quotactl", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
}
