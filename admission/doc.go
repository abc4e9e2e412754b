// Package admission decides which packets may enter, and which may leave.
//
// The Gate judges one packet at a time, in the order of Gate.Admit:
//
//  1. a segment of a flow in its table, not a SYN of a new flow    pass, if its client can have sent it
//  2. an ICMP error with a path MTU for what such a flow has sent  pass
//  3. a SYN to an open service, within its quota                   pass, recorded
//  4. a datagram that could be a knock                             queued; its source is pending
//  5. a SYN whose source holds a grant for the service, with room  pass, recorded
//  6. a SYN whose source is pending                                parked
//  7. everything else                                              drop, counted
//
// A knock is decided apart from the packets, by a worker (see knock.go, which
// has the state machine). Egress is the other half of the promise: a packet
// leaves only if its flow is in the table, whatever the TCP/IP stack behind
// the gate would like to answer.
//
// The gate sees the segments of both directions, so it knows which numbers a
// flow's client can use (see tcb). It passes an acknowledgement in the handshake
// only of the very SYN-ACK, and later only of what was sent and not long ago (RFC
// 9293, 3.10.7.4; RFC 5961, 5); sequence numbers only around the window (RFC
// 9293, 3.10.7.4); and of resets and SYNs only what the stack challenges, but for
// a reset at the next number (RFC 5961, 3 and 4). A host off the path guesses none
// of these, so it can neither complete a handshake nor feed or end a flow. Only a
// handshake that is done so counts against an address.
//
// All that can change is in two tables under one lock, which is never held
// across I/O, cryptography or a call out: flows, by their tuple, and sources,
// by their address. A refused packet costs at most one look-up in each; it
// allocates nothing, and its cost depends neither on the number of clients nor
// of grants nor of flows.
//
// The package is not part of the module's API and has no compatibility promise:
// any version may change it.
package admission
