package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// syscallList are the system calls that are let through: whatever their arguments, or with
// some arguments only.
type syscallList struct {
	allowed     []string
	argFiltered []filteredCall
}

// gatewayCalls are those of a running gateway.
func gatewayCalls() syscallList { return syscallList{allowed, argFiltered(os.Getpid())} }

// routesCalls are those of the process that restores routes. It opens no file, makes
// no connection, and is sent nothing but by its parent and the kernel.
func routesCalls() syscallList {
	return syscallList{
		allowed: []string{
			// Its pipe and its log, which are open, and netlink sockets; socket is limited.
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

// allowed are the system calls that a running gateway makes, whatever their
// arguments. A name that an architecture does not have is left out there. Whoever
// adds one says what for; the gateways of test/netns run with this list.
var allowed = []string{
	// Packets, connections, files: what is open already.
	"read", "write", "readv", "writev", "pread64", "pwrite64", "close", "lseek",
	"fstat", "ftruncate", "fallocate", "fsync", "fdatasync", "flock", "getdents64",

	// The runtime's poller and its wake-ups.
	"epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2",

	// The runtime's scheduler, its clocks where the kernel has no page for them, its signals.
	"futex", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday",
	"sched_yield", "sched_getaffinity", "restart_syscall", "getrandom",
	"getpid", "gettid", "exit", "exit_group",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",

	// Memory; mmap and mprotect are limited.
	"munmap", "madvise", "brk",

	// Connections to upstreams and resolvers, the metrics and control sockets,
	// notices to the service manager; socket is limited.
	"bind", "listen", "accept4", "connect", "shutdown", "getsockname", "getpeername",
	"setsockopt", "getsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg",

	// The state directory, the audit log, a reload, /etc/resolv.conf, time zones, /proc/self.
	"openat", "newfstatat", "readlinkat", "renameat", "unlinkat", "mkdirat", "fchmod", "fchmodat",

	// Who we are, and what kernel this is.
	"getuid", "geteuid", "getgid", "getegid", "uname",

	// Where a build has C in it: its threads, and its resolver.
	"set_robust_list", "rseq", "poll", "ppoll",
}

// anyNamespace are the flags of clone(2) that make a namespace.
const anyNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

// argFiltered are the calls that are allowed with some arguments only. pid is the
// number of this process.
func argFiltered(pid int) []filteredCall {
	return append(commonArgFiltered(pid), []filteredCall{
		// TCP, UDP and unix sockets; and questions about routes, which take no
		// privilege: a reload asks whether an upstream would be reached by the device.
		{name: "socket", when: anySocket(), errno: unix.EAFNOSUPPORT},
		// The tables of the packet filter, which are open; no program and no table more.
		{name: "bpf", when: oneOf(0, unix.BPF_MAP_LOOKUP_ELEM, unix.BPF_MAP_UPDATE_ELEM, unix.BPF_MAP_DELETE_ELEM)},
		// Taking the filter off the device; the device's size, when the kernel says
		// that something about it has changed.
		{name: "ioctl", when: oneOf(1, unix.TUNSETFILTEREBPF, unix.SIOCGIFMTU)},
		// Asking for this process's limits, and setting none.
		{name: "prlimit64", when: []alternative{{equals(0, 0), isZero(2)}}},
	}...)
}

// commonArgFiltered are the limited calls that every program in Go makes. pid is the number of
// this process.
func commonArgFiltered(pid int) []filteredCall {
	return []filteredCall{
		// Threads, and no processes.
		{name: "clone", when: []alternative{{hasBits(0, unix.CLONE_THREAD), lacksBits(0, anyNamespace)}}},
		// Memory that holds no program.
		{name: "mmap", when: []alternative{{lacksBits(2, unix.PROT_EXEC)}}},
		{name: "mprotect", when: []alternative{{lacksBits(2, unix.PROT_EXEC)}}},
		// Signals to ourselves: the runtime interrupts its threads, and ends by the
		// signal that it was sent.
		{name: "tgkill", when: oneOf(0, uint32(pid))},
		{name: "kill", when: oneOf(0, uint32(pid))},
		// Flags of descriptors, and copies of these; no owner, whom the kernel would send
		// signals of the file's choice.
		{name: "fcntl", when: oneOf(1, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD, unix.F_DUPFD_CLOEXEC)},
		// Names for the runtime's memory.
		{name: "prctl", when: oneOf(0, unix.PR_SET_VMA)},
	}
}

// enosys are calls that the kernel is said not to have: whoever tries them has
// another way. The C library falls back from clone3 to clone, whose arguments can
// be judged; Go copies by itself.
var enosys = []string{"clone3", "statx", "sendmmsg", "splice", "sendfile", "copy_file_range", "openat2", "faccessat2", "epoll_pwait2", "renameat2"}

// killed are calls that nothing in a gateway makes. Whoever makes one is in it, and
// is not to have another try: the process dies of SIGSYS, the kernel logs it, and the
// blackhole routes keep the addresses silent.
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
