package gateway_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// usage returns the gateway's knockgw_resource_used and knockgw_resource_limit,
// by resource.
func usage(t *testing.T, r prometheus.Gatherer) (used, limit map[string]float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	used, limit = make(map[string]float64), make(map[string]float64)
	for _, f := range families {
		all := map[string]map[string]float64{"knockgw_resource_used": used, "knockgw_resource_limit": limit}[f.GetName()]
		if all == nil {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) != 1 || m.GetLabel()[0].GetName() != "resource" {
				t.Errorf("%s has the labels %v", f.GetName(), m.GetLabel())
			}
			all[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
		}
	}
	return used, limit
}

func TestMetricsUsageMatchesLimits(t *testing.T) {
	h, _, registry := withMetrics(t, "state: {dir: "+t.TempDir()+"}\n")
	conn, err := h.connectAs(alice, clientAddrs[0], modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	used, limit := usage(t, registry)
	for of, most := range limit {
		if now, ok := used[of]; !ok || most <= 0 || now < 0 || now > most {
			t.Errorf("of %s, %v (%v) of %v are used", of, now, ok, most)
		}
	}
	for of := range used {
		if _, ok := limit[of]; !ok {
			t.Errorf("%s has no limit", of)
		}
	}
	for _, of := range []string{"flow_table_entries", "flows_per_source", "flows_per_client", "replay_keys", "replay_keys_per_client", "replay_file_records"} {
		if used[of] < 1 {
			t.Errorf("alice is connected, but the usage of %s is 0", of)
		}
	}
}

// fixed, count and setup are reasons why a limit has no metric.
const (
	fixed = "the size of a message, a packet, a line or a list: it does not fill"
	count = "another metric counts when it is full"
	setup = "configured by the operator"
)

// limitMetrics maps the limits in the code to their metrics, or to the reason
// why they have none.
var limitMetrics = map[string]string{
	"admission.DefaultFlows":                 "flow_table_entries",
	"admission.DefaultHalfOpen":              "half_open_flows",
	"admission.DefaultGrants":                "grants",
	"admission.DefaultGrantsPerSource":       "grants_per_source",
	"admission.DefaultGrantsPerClient":       "grants_per_client",
	"admission.DefaultFlowsPerClient":        "flows_per_client",
	"admission.DefaultFlowsPerSource":        "flows_per_source",
	"admission.DefaultKnocks":                "knock_queue_length",
	"admission.DefaultKnocksPerSource":       "knocks_per_source",
	"admission.DefaultDeferredSYNs":          "deferred_syns",
	"admission.DefaultDeferredSYNsPerSource": "deferred_syns_per_source",
	"admission.ReservationsPerGrant":         "unauthenticated_flows_per_grant",
	"admission.HandshakesPerGrant":           "handshakes_per_grant",
	"admission.maxHandshakes":                "hidden_handshakes",
	"admission.maxHandshakesPerSource":       "handshakes_per_source",
	"admission.maxHandshakesPerClient":       "handshakes_per_client",
	"admission.openShare":                    "open_service_flows",
	"admission.completeShare":                "open_service_connections",
	"admission.maxPendingBytes":              "unauthenticated_bytes",
	"admission.maxPendingBytesPerFlow":       count, // knockgw_packets_total, reason unauthenticated-limit
	"replay.DefaultMaxKeys":                  "replay_keys",
	"replay.perClientShare":                  "replay_keys_per_client",
	"replay.segmentRoom":                     "replay_file_records",
	"replay.maxLoaded":                       "replay_keys",
	"knock.MaxKnownSources":                  "known_sources",
	"admission.maxFailing":                   "failing_sources",
	"knock.MaxUDPSequences":                  "udp_sequences",
	"knock.UDPSequencesPerSource":            "udp_sequences_per_source",
	"knock.MaxSYNSequences":                  "syn_sequences",
	"knock.SourcesPerSYNSequence":            "syn_sequences_per_client",
	"knock.MaxClaims":                        "syn_knock_claims",
	"admission.evictedBacklog":               "eviction_queue_length",
	"knock.hmacBurst":                        "knock_rate_unknown",
	"policy.MaxPrecomputed":                  "expected_knocks",
	"policy.maxListed":                       fixed,
	"knock.unknownBurst":                     count, // knockgw_packets_total, reason knock-budget
	"knock.unknownSubnetBurst":               count,
	"knock.knownBurst":                       count,
	"knock.matchedBurst":                     count,
	"admission.maxDeferredSYN":               fixed,
	"admission.maxPoll":                      fixed, // a time
	"replay.MaxLifetime":                     fixed,
	"knock.MaxReuse":                         fixed,
	"knock.queue:n":                          "knock_queue_length",
	"packet.DefaultDatagrams":                "fragmented_packets",
	"packet.DefaultReassemblyBytes":          "fragment_bytes",
	"packet.DefaultPerSource":                count, // knockgw_packets_total, reason malformed-fragment-limit
	"packet.DefaultFragmentsPerDatagram":     count,
	"packet.MaxPacket":                       fixed,
	"tun.MaxParts":                           fixed,
	"routing.maxRulesPerAddr":                setup,
	"routing.maxRulePort":                    fixed,
	"routing.maxDrain":                       fixed,
	"routing.maxReconcileAttempts":           fixed,
	"routing.maxDumpAttempts":                fixed,
	"netstack.maxRecvBuf":                    "unread_bytes_per_connection",
	"netstack.maxSendBuf":                    fixed, // what an upstream sends waits in its kernel beyond
	"netstack.maxGSO":                        fixed,
	"netstack.maxOptionsSize":                fixed, // of one TCP header
	"netstack.maxRTO":                        fixed, // a time
	"netstack.maxRetries":                    fixed, // until services[].idle is over
	"netstack.maxRequests":                   "handshakes",
	"netstack.backlog":                       count, // knockgw_tcp_events_total, syn_cookies_sent
	"filter.maxExpected":                     "filter_expected_knocks",
	"filter.maxEndpoints":                    "filter_service_ports",
	"filter.minBuckets":                      "filter_flows_and_sources",
	"capture.maxTerms":                       fixed,
	"capture.MaxKnock":                       fixed,
	"capture.maxHeaders":                     fixed,
	"capture.MaxSnaplen":                     fixed,
	"capture.maxPerPacket":                   fixed,
	"capture.DefaultQueue":                   "trace_queue_length",
	"capture.queue:o.Queue":                  "trace_queue_length",
	"audit.DefaultPerSecond":                 "audit_burst",
	"audit.maxQueued":                        "audit_queue_length",
	"audit.queue:maxQueued":                  "audit_queue_length",
	"audit.DefaultMaxBytes":                  fixed, // it rotates: it is full again and again
	"audit.maxText":                          fixed,
	"capture.maxBlock":                       fixed,
	"control.MaxConnections":                 "control_connections",
	"control.maxHeader":                      fixed,
	"control.maxBody":                        fixed,
	"control.maxResponse":                    fixed,
	"control.maxEvent":                       fixed,
	"control.MaxList":                        fixed,
	"control.maxMeasure":                     fixed,
	"gateway.acceptBacklog":                  "accept_queue_length",
	"gateway.queue:acceptBacklog":            "accept_queue_length",
	"observe.maxSummary":                     fixed,
	"capture.maxQueueBytes":                  "trace_queue_length",
	"flows.maxReadyAge":                      fixed, // a time
	"netstack.maxSilence":                    fixed, // a time
	"observe.maxHeader":                      fixed,
	"observe.maxConnections":                 "metrics_connections",
	"observe.maxPerAddress":                  fixed,
	"observe.maxSessions":                    "trace_sessions",
	"observe.traceQueue":                     "trace_queue_length",
	"observe.queue:traceQueue":               "trace_queue_length",
	"admission.queue:evictedBacklog":         "eviction_queue_length",
	"gateway.maxReloadLines":                 fixed,
	"statuspage.maxName":                     fixed,
	"statuspage.maxSamples":                  fixed,
	"statuspage.MaxSessions":                 fixed,
}

// limitConst matches the names of constants that are limits.
var limitConst = regexp.MustCompile(`^([mM]ax|[mM]ost)[A-Z]|^Default(Flows|HalfOpen|Grants|Knocks|Deferred|Queue|Datagrams|Reassembly\w*Bytes|PerSource|PerSecond|Fragments)|(Backlog|Burst|Queue)$|^backlog$|^queued$`)

// A new limit in the code needs a metric, or an entry here with the reason why
// not.
func TestMetricsCoverLimitsInCode(t *testing.T) {
	_, _, registry := withMetrics(t, "state: {dir: "+t.TempDir()+"}\n")
	_, limit := usage(t, registry)
	for name, of := range limitMetrics {
		if _, ok := limit[of]; !ok && of != fixed && of != count && of != setup && !strings.HasPrefix(name, "filter.") { // which this lab's device has not got
			t.Errorf("%s: no metric for the limit of %s", name, of)
		}
	}
	for _, pkg := range []string{
		"admission", "capture", "flows", "gateway", "netstack", "packet", "tun",
		"internal/audit", "internal/control", "internal/filter", "internal/knock", "internal/observe", "internal/policy", "internal/replay", "internal/routing", "internal/statuspage",
	} {
		files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pkg, err)
		}
		pkg := filepath.Base(pkg)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, name := range limitsIn(t, file) {
				if limitMetrics[pkg+"."+name] == "" {
					t.Errorf("%s: %s.%s is a limit: add a metric (knockgw_resource_used and knockgw_resource_limit), or a reason here", file, pkg, name)
				}
			}
		}
	}
}

// limitsIn returns the constants of a file that look like limits, and its
// queues.
func limitsIn(t *testing.T, file string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			for _, n := range s.(*ast.ValueSpec).Names {
				if limitConst.MatchString(n.Name) {
					names = append(names, n.Name)
				}
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "make" {
			return true
		}
		if _, ok := call.Args[0].(*ast.ChanType); ok {
			if size := string(text[call.Args[1].Pos()-1 : call.Args[1].End()-1]); size != "1" {
				names = append(names, "queue:"+size)
			}
		}
		return true
	})
	return names
}
