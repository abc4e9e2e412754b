// Package bench measures knockgw in the lab of test/netns and prints Markdown tables. It needs root and TUN
// devices, and runs only when asked to:
//
//	KNOCKGW_BENCH=1 go test -count=1 -timeout 60m -v ./test/bench
//
// Throughput is compared with HAProxy's in TCP mode, which takes iperf3 and haproxy; what a stranger's packet costs
// is compared between few clients and many; and a client knocks while strangers send junk. What is compared takes
// turns, so that what else the machine does in the meantime meets all alike.
package bench
