// Package lab wraps package internal/netlab, which has the drawing of the
// network, for tests: what cannot be set up ends the test, and everything ends
// with it. It adds what only tests need: gateways with a configuration of their
// own, floods, links with delay and loss, and packets parsed by gopacket.
package lab
