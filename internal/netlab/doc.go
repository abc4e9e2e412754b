// Package netlab builds a small network out of network namespaces, for
// `knockgw demo` and for the tests in test/netns: a client, an attacker, a
// gateway and an upstream, real kernels with real routes between them.
//
//	attacker 10.1.2.2 fd01:2::2 --gw0--\                             protected: 10.77.0.0/24, fd77::/64
//	         10.1.2.3 fd01:2::3   attacker0\
//	                                        gateway --- knock0 (TUN, made by knockgw, routes of the above)
//	                               client0 /       \
//	client   10.1.1.2 fd01:1::2 --gw0--/           upstream0 --gw0-- upstream 10.1.3.2 fd01:3::2
//	         10.1.1.3 fd01:1::3                                               10.1.3.3 fd01:3::3
//
// Every link is a veth pair with its offloads as the kernel makes them, so
// knockgw meets checksums that were never computed and segments of 64 KiB, as
// it does on a virtual machine. The gateway forwards; the client and the
// attacker have their default route through it; nothing leads out of the lab.
//
// A namespace here has no name: it lives as long as this process holds its
// descriptor, and the processes started in it die with the process that started
// them. Labs therefore never collide, and a process that was killed leaves
// nothing behind. To look inside one, enter it by a process: nsenter -n -t PID.
//
// The package reports errors; package test/netns/lab wraps it for tests.
package netlab
