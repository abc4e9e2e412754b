// Package filter drops packets in the kernel, on Linux, where that is permitted:
// a small eBPF program on the gateway's own TUN device drops what the gate would
// certainly drop, before the packet is copied to the process. It is no firewall:
// it sees the packets of this one device, and is removed with it.
//
// One rule is above all others: what the program is not sure of, it passes. The
// gate then decides, exactly as it does without a filter. A packet of an
// unauthorized host that passes costs time; a packet of a client that is dropped
// costs a connection. So for everything that the gate keeps, the filter has the
// same or a little more, never less:
//
//	the gate                        the filter                    passes too much
//	flows, by their tuple           a fingerprint of each         never, but by chance (2^-63)
//	sources: pending, with grants   a fingerprint of each         those with a grant for another service
//	sources that have flows         a fingerprint of each         addresses of one IPv6 /64 together
//	expected knocks                 a fingerprint of each         a slot more; all ports alike
//	knocks in the queue             a mark that lasts a second    sources that share a mark; junk
//
// The last line is a race that the filter must win: a client sends its knock and
// at once its SYN. The kernel sees both before the process has read either, so
// the program itself marks the source of a knock as it passes it.
//
// # How the tables follow the gate
//
// The gate reports each change with its lock held, and the change is a store to
// memory that the program reads (BPF_F_MMAPABLE): no system call for a flow,
// and nothing to wait for. An entry is in the table before a packet that needs
// it can arrive: a flow before its SYN-ACK leaves, a table of expected knocks
// before the gate uses it. Where a table has no room for an entry, and for a
// second after the services have changed, every packet passes.
//
// A fingerprint is a hash of a key under a secret (SipHash-1-3), computed alike
// in Go and in the program. It is in one of two buckets of eight, which are a
// cache line each. An attacker who does not know the secret cannot fill a
// bucket.
//
// # Time
//
// The program asks no clock. Tick, which the process calls at intervals, counts
// time. If the process is starved of the processor, the filter's clock stands
// still, and marks last longer.
//
// # What it does not check
//
// Checksums, which need a pass over the whole packet; rate limits, quotas and
// bans; the sequence number that an ICMP error quotes. The gate checks these.
//
// # The program
//
// It is C, in bpf/, in the order of a packet's way through it. The objects that
// clang makes of it, for either byte order, are embedded: generate_linux.go has
// the command. They need Linux 5.15, CAP_BPF alone, and no BTF of the kernel.
package filter
