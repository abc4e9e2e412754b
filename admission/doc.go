// Package admission decides which packets may enter, and which may leave.
//
// The Gate decides about one packet at a time, in the order that admit.go lists
// and follows. A knock is decided apart from the packets, by a worker (see
// package knock). Egress is the other half of the promise: a packet leaves only
// if its flow is in the table, whatever the TCP/IP stack behind the gate would
// like to answer.
//
// The gate sees the segments of both directions, so it knows which numbers a
// flow's client can use (see tcb). It passes an acknowledgment in the handshake
// only of the very SYN-ACK, and later only of what was sent and not long ago
// (RFC 9293, 3.10.7.4; RFC 5961, 5); sequence numbers only around the window
// (RFC 9293, 3.10.7.4); and of resets and SYNs only what the stack challenges,
// but for a reset at the next number (RFC 5961, 3 and 4). A host off the path
// guesses none of these, so it can neither complete a handshake nor feed or end
// a flow. Only a handshake that is complete in this sense counts against an
// address.
//
// The mutable state is under one lock, which is never held across I/O,
// cryptography or a call out. It is in four objects: conntrack has the flows,
// by their tuple; sourceTable the sources, by their address, with their grants
// and the usage of clients; deferredQueue the SYNs that wait for a knock;
// banTable the bans. A refused packet costs at most one look-up in each; it
// allocates nothing, and its cost depends neither on the number of clients nor
// of grants nor of flows.
//
// The package is not part of the module's API and has no compatibility promise:
// any version may change it.
package admission
