// Package capture records packets with what was decided about them, and reads
// captures of anybody's back.
//
//	packet path --Offer--> Tap: filter, copy --> bounded queue --Next--> Writer --> pcapng
//
// A Tap never makes the packet path wait: what finds the queue full is counted
// and left out. A Writer makes pcapng of it (draft-ietf-opsawg-pcapng), in which
// each packet has its verdict and reason as a comment, its direction as a flag
// and before it the number of those left out, all of which Wireshark shows.
// A Reader takes pcapng and the older pcap, and gives IP packets whatever they
// were framed in.
//
// The package is not part of the module's API and has no compatibility promise:
// any version may change it.
package capture
