// Package interop stands in for a libknock on the other side: what ours sends
// must be, byte for byte, what an independent implementation of the formats
// sends with the same random bytes, and what that one and a real libknock
// client have sent must be let in by ours.
//
//	vectors  protocol/testdata/wire.json        cases of every format, made by the independent implementation
//	capture  admission/testdata/client.pcap     a libknock client on the wire: a knock by each of the six methods,
//	                                            then a connection with each format of authentication
//
//	client_test.go   our client against the vectors: UDP knocks and both formats of authentication
//	server_test.go   the vectors against our server: authentication, and the proof that it answers with
//	gate_test.go     the vectors against our gate: UDP knocks, SYN knocks, SYN sequences
//	capture_test.go  the capture against gate and server, at its time and once more
//
// The SYNs that our client sends are compared in client/vectors_test.go, where
// they can be seen without a raw socket. None of it needs root or a network.
package interop
