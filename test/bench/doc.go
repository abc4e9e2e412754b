// Package bench compares knockgw with HAProxy in TCP mode, on the same lab, in one run, and prints a Markdown
// table. It needs root, TUN devices, iperf3 and haproxy, and runs only when asked to:
//
//	KNOCKGW_BENCH=1 go test -count=1 -v ./test/bench
//
// The two take turns, so that what else the machine does in the meantime meets both alike.
package bench
