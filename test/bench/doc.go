// Package bench measures knockgw in the lab of test/netns, interleaved with
// HAProxy, with the plain kernel, or with itself, and reports medians and
// ratios in Markdown and in JSON. It needs root, TUN devices, iperf3 and
// haproxy, and runs only when asked to, all of it or a part:
//
//	make bench
//	KNOCKGW_BENCH=1 go test -count 1 -timeout 60m -v -run TestBench ./test/bench
//	KNOCKGW_BENCH=1 go test -count 1 -v -run TestBench/latency ./test/bench
//
// These are the parts, each in a file of its name:
//
//	throughput   what streams of iperf3 get through, and the proxy's processor time for it
//	connections  short connections a second, and whether they get fewer
//	latency      a byte there and back
//	memory       what idle flows take
//	lossy        a stream over a long link that loses some packets
//	flood        what a stream keeps while attackers send as fast as they can, and what that costs
//	refused      processor time for one packet of an attacker, with few clients and with many
//	junk         admissions while attackers send plausible knocks
//
// What is compared is interleaved, so that other work of the
// machine affects all alike, and ratios are of rounds next to each other. Where
// a goal was set, the report shows the result; to miss one is no failure. The
// variables BENCH_ROUNDS, BENCH_OUT and BENCH_CONGESTION say how many rounds,
// where the report goes (bench-out in the repository), and which congestion
// control TCP uses (by default the machine's).
package bench
