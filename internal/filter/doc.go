// Package filter refuses packets in the kernel, on Linux, where that is
// permitted: a small eBPF program on the gateway's own TUN device drops what the
// gate would drop for sure, before anybody copies it into the process. It is no
// firewall: it sees the packets of this one device, and is gone with it.
//
// One rule is above all others: what it is not sure of, it passes. The gate then
// decides, exactly as it does where there is no filter; a stranger's packet that
// gets through costs time, a client's that does not costs a connection. So the
// filter knows a little more of everything than the gate would let in, never less:
//
//	what the gate keeps             what the filter has               too much of it
//	flows, by their tuple           a tag of each                     never, but by chance (2^-63)
//	sources: pending, with grants   a tag of each                     those whose grant is for another service
//	sources that have flows         a tag of each                     addresses of one /64 together
//	knocks that are expected        a tag of each                     a slot more; all ports alike
//	knocks in the queue             a mark that lasts a second        sources that share a mark; junk
//
// The last line is the race that must not be lost: a client sends its knock and
// at once its SYN. The kernel sees both before the process has seen either, so
// the filter marks the source of a knock itself, as it passes it.
//
// # How the tables follow the gate
//
// The gate tells of each change, its lock held, and the change is a store to
// memory that the program reads (BPF_F_MMAPABLE): no system call for a flow, and
// nothing to wait for. What makes a packet welcome is in the table before the
// packet can come: a flow before its SYN-ACK leaves, a table of expected knocks
// before the gate uses it. Where a table is too full for an entry, and for a
// second after the services have changed, every packet passes.
//
// A tag is a hash of an entry under a secret key (SipHash-1-3), computed alike
// in Go and in the program. It stands in one of two buckets of eight, which are
// a cache line each. Whoever does not know the key cannot fill a bucket.
//
// # Time
//
// The program asks no clock. Tick counts time, which the process calls now and
// then; where the process is starved of the processor, the filter's clock stands
// still, and marks last the longer.
//
// # What it does not look at
//
// Checksums, which cost a look at the whole packet; budgets, quotas and bans; the
// sequence number that an ICMP error quotes. These are the gate's.
package filter
