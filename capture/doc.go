// Package capture records packets with their verdicts, and reads captures of
// other programs.
//
//	packet path --Enqueue--> Tap: filter, copy --> bounded queue --Next--> Writer --> pcapng
//
// A Tap never blocks the packet path: packets that find the queue full are
// counted and dropped. A Writer writes pcapng (draft-ietf-opsawg-pcapng), in
// which each packet has its verdict and reason as a comment, its direction as a
// flag and the number of packets dropped before it, as shown by
// Wireshark. A Reader reads pcapng and the older pcap, and returns IP packets
// whatever their link layer is.
//
// The package is internal to the gateway and makes no compatibility promise.
package capture
