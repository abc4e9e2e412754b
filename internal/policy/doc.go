// Package policy describes what a gate protects: the services, the clients that
// may use them, and the methods by which they may knock.
//
// A Policy is built once from Options and never changes, so it can be read
// without a lock and swapped under running traffic. It answers the questions of
// the packet path in constant time, whatever the number of services and clients:
// which service is at this address and port, which methods of knocks are taken
// there, which keys may a knock have been made with.
package policy
