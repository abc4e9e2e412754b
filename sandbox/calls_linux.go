package sandbox

import "golang.org/x/sys/unix"

// allowed are the system calls that a running gateway makes, whatever their
// arguments. A name that an architecture does not have is left out there. Whoever
// adds one says what for; the tests of test/netns run with this list.
var allowed = []string{
	// Packets, connections, files: what is open already.
	"read", "write", "readv", "writev", "pread64", "pwrite64", "close", "lseek",
	"fcntl", "fstat", "ftruncate", "fsync", "fdatasync", "flock", "getdents64",

	// The runtime's poller and its wake-ups.
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd2", "pipe2",
	"ppoll", "poll",

	// The runtime's scheduler and clocks.
	"futex", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time",
	"sched_yield", "sched_getaffinity", "restart_syscall", "getrandom", "membarrier",
	"getpid", "gettid", "exit", "exit_group",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "rt_sigpending",
	// A thread of a program with C in it, as the race detector is.
	"set_robust_list", "rseq", "arch_prctl", "set_tid_address",

	// Memory; mmap and mprotect are limited.
	"munmap", "madvise", "mincore", "mremap", "brk",

	// Connections to upstreams and resolvers, the metrics and control sockets,
	// notices to the service manager; socket is limited.
	"bind", "listen", "accept4", "connect", "shutdown", "getsockname", "getpeername",
	"setsockopt", "getsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg",
	// What Go makes of a copy between files and sockets, or tries to.
	"sendfile", "splice", "copy_file_range",

	// The state directory, the audit log, a reload, names and time zones.
	"openat", "open", "newfstatat", "stat", "lstat", "statx", "fstatfs", "readlinkat", "readlink", "faccessat", "faccessat2", "access",
	"renameat", "renameat2", "rename", "unlinkat", "unlink", "mkdirat", "mkdir", "fchmod", "fchmodat", "fchown", "fchownat",
	"getcwd", "umask",
	// Changed files, where they are watched for.
	"inotify_init1", "inotify_add_watch", "inotify_rm_watch",

	// Who we are and how much there is.
	"getuid", "geteuid", "getgid", "getegid", "getgroups", "uname", "sysinfo", "getrusage", "getppid",
	"getrlimit", "times",
}

// anyNamespace are the flags of clone(2) that make a namespace.
const anyNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

// limited are the calls that are allowed with some arguments only. pid is the
// number of this process.
func limited(pid int) []call {
	return []call{
		// TCP, UDP and unix sockets; and questions about routes, which take no
		// privilege: a reload asks whether an upstream would be reached by the device.
		{name: "socket", when: anySocket(), errno: unix.EAFNOSUPPORT},
		// Threads, and no processes.
		{name: "clone", when: []alternative{{with(0, unix.CLONE_THREAD), without(0, anyNamespace)}}},
		// Memory that holds no program.
		{name: "mmap", when: []alternative{{without(2, unix.PROT_EXEC)}}},
		{name: "mprotect", when: []alternative{{without(2, unix.PROT_EXEC)}}},
		// Signals to ourselves: the runtime interrupts its threads, and ends by the
		// signal that it was sent.
		{name: "tgkill", when: oneOf(0, uint32(pid))},
		{name: "kill", when: oneOf(0, uint32(pid))},
		// The tables of the packet filter, which are open; no program and no table more.
		{name: "bpf", when: oneOf(0, unix.BPF_MAP_LOOKUP_ELEM, unix.BPF_MAP_UPDATE_ELEM, unix.BPF_MAP_DELETE_ELEM)},
		// Taking the filter off the device; the device's size, when the kernel says
		// that something about it has changed.
		{name: "ioctl", when: oneOf(1, unix.TUNSETFILTEREBPF, unix.SIOCGIFMTU)},
		// Names for the runtime's memory.
		{name: "prctl", when: oneOf(0, unix.PR_SET_VMA)},
		// Asking for this process's limits, and setting none.
		{name: "prlimit64", when: []alternative{{is(0, 0), null(2)}}},
	}
}

// fatal are calls that nothing in a gateway makes. Whoever makes one is in it, and
// is not to have another try: the process dies of SIGSYS, the kernel logs it, and the
// blackhole routes keep the addresses silent.
var fatal = []string{
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
