package config

import (
	"strings"
)

// serviceErrors are errors in names and addresses of services.
func serviceErrors() []errorCase {
	return []errorCase{
		{"services missing", tunLine + "\n", 1, "services", "name at least one"},
		{"no services", replaceInMinimal("services:\n"+serviceLine, "services: []"), 4, "services", "there is nothing to protect"},
		{"service without name", replaceInMinimal("name: ssh, ", ""), 5, "services[0].name", "name: service-1"},
		{"name with a space", replaceInMinimal("name: ssh", "name: my ssh"), 5, "services[0].name", "use 1 to 64 letters"},
		{"duplicate name", minimal + strings.Replace(serviceLine, ":22\"", ":23\"", 1), 6, "services[1].name", "already the service of line 5"},
		{"service without listen", replaceInMinimal(`listen: "10.77.0.1:22", `, ""), 5, "services[0].listen", "as 10.77.0.1:22"},
		{"listen without port", withListen("10.77.0.1"), 5, "services[0].listen", `"10.77.0.1": a port is missing; write it as 10.77.0.1:22`},
		{"prefix without port", withListen("10.77.0.0/24"), 5, "services[0].listen", "write it as 10.77.0.0/24:22"},
		{"IPv6 without port", withListen(`"[fd77::1]"`), 5, "services[0].listen", `write it as "[fd77::1]:22"`},
		{"IPv6 without brackets", withListen("fd77::1:22"), 5, "services[0].listen", "needs brackets"},
		{"IPv6 prefix without brackets", withListen("fd77::/64:22"), 5, "services[0].listen", `"[fd77::/64]:22"`},
		{"listen on port 0", withListen("10.77.0.1:0"), 5, "services[0].listen", "from 1 to 65535"},
		{"listen on a name of a port", withListen("10.77.0.1:ssh"), 5, "services[0].listen", "from 1 to 65535"},
		{"listen on a host name", withListen("gateway:22"), 5, "services[0].listen", "not an IP address"},
		{"listen everywhere", withListen("0.0.0.0:22"), 5, "services[0].listen", "name the address that clients dial"},
		{"listen on loopback", withListen("127.0.0.1:22"), 5, "services[0].listen", "a network of its own"},
		{"listen with a zone", withListen(`"[fe80::1%eth0]:22"`), 5, "services[0].listen", "remove %"},
		{"listen with host bits", withListen("10.77.0.1/24:22"), 5, "services[0].listen", "write 10.77.0.0/24"},
		{"listen outside of routes", withListen("10.78.0.1:22"), 5, "services[0].listen", "add 10.78.0.1/32 there"},
		{"prefix wider than its route", withListen("10.77.0.0/23:22"), 5, "services[0].listen", "add 10.77.0.0/23 there"},
		{"prefix reaching out of its route", withListen("10.76.0.0/15:22"), 5, "services[0].listen", "add 10.76.0.0/15 there"},
		{"overlap", minimal + `  - {name: b, listen: "10.77.0.1:22", upstream: "10.0.2.2:1"}`, 6, "services[1].listen", "overlaps with service ssh (10.77.0.1, line 5); change the address or the port"},
		{"overlap with a prefix", minimal + `  - {name: b, listen: "10.77.0.0/28:22", upstream: "10.0.2.2:1"}`, 6, "services[1].listen", "overlaps with service ssh"},
		{"overlap with a mapped address", minimal + `  - {name: b, listen: "[::ffff:10.77.0.1]:22", upstream: "10.0.2.2:1"}`, 6, "services[1].listen", "overlaps with service ssh"},
		{"MAC port", withService("port: 70000"), 5, "services[0].port", "from 1 to 65535"},
	}
}

// upstreamErrors are errors in tun.local and upstreams.
func upstreamErrors() []errorCase {
	return []errorCase{
		{"local port twice", withLocal(`"203.0.113.7:22", "203.0.113.7:22"`), 1, "tun.local[1]", "remove one of them"},
		{"local port of a prefix", withLocal(`"203.0.113.0/24:22"`), 1, "tun.local[0]", "name an address of this host"},
		{"local port in a route", withLocal(`"10.77.0.9:22"`), 1, "tun.local[0]", "remove one of them"},
		{"local port that Linux has no rules for", withLocal(`"203.0.113.7:65535"`), 1, "tun.local[0]", "choose another one"},
		{"local port of the loopback", withLocal(`"127.0.0.1:22"`), 1, "tun.local[0]", ""},
		{"upstream that is hidden itself", withLocal(`"10.0.2.2:2222"`), 5, "services[0].upstream", "127.0.0.1:2222"},
		{"no upstream", replaceInMinimal(`, upstream: "10.0.2.2:2222"`, ""), 5, "services[0].upstream", "write the address of the service itself"},
		{"upstream without port", withUpstream("10.0.2.2"), 5, "services[0].upstream", "write it as 10.0.2.2:22"},
		{"upstream name without port", withUpstream("db.example"), 5, "services[0].upstream", "write it as db.example:22"},
		{"upstream without host", withUpstream(`":22"`), 5, "services[0].upstream", "write 127.0.0.1:22 for this host"},
		{"upstream that is a mistyped address", withUpstream("10.0.2:22"), 5, "services[0].upstream", "neither an address nor a host name"},
		{"upstream everywhere", withUpstream("0.0.0.0:22"), 5, "services[0].upstream", "127.0.0.1:22"},
		{"upstream that is a prefix", withUpstream("10.0.2.0/24:22"), 5, "services[0].upstream", `write "original:"`},
		{"original with a bad port", withUpstream("original:x"), 5, "services[0].upstream", "from 1 to 65535"},
		{"upstream in a route", withUpstream("10.77.0.2:22"), 5, "services[0].upstream", "in the route 10.77.0.0/24"},
		{"mapped upstream in a route", withUpstream(`"[::ffff:10.77.0.2]:22"`), 5, "services[0].upstream", "lead back into the device"},
		{"original without a way", withUpstream("original:2222"), 5, "services[0].upstream", "upstream_device: eth1"},
	}
}

// modeErrors are errors in modes, methods and authentication.
func modeErrors() []errorCase {
	return []errorCase{
		{"no mode", withService("mode: open"), 5, "services[0].mode", "write auth, knock or knock-auth"},
		{"visible knock", withService("mode: knock, visible: true"), 5, "services[0].visible", "remove it, or write mode: knock-auth"},
		{"visible auth", withService("mode: auth, visible: true"), 5, "services[0].visible", "remove visible"},
		{"invisible alias of a visible mode", withService("mode: knock-auth-only, visible: false"), 5, "services[0].visible", "write mode: knock-auth"},
		{"no methods", withService("knock: []"), 5, "services[0].knock", "remove the key for all five"},
		{"unknown method", withService("knock: [udp, icmp]"), 5, "services[0].knock[1]", "write udp, udp-seq, tcp-syn, tcp-syn-seq or udp-v2"},
		{"method that is no knock", withService("knock: [tcp-auth]"), 5, "services[0].knock[0]", "not a knock method"},
		{"methods in mode auth", withService("mode: auth, knock: [udp]"), 5, "services[0].knock", "remove it, or write mode: knock-auth"},
		{"ttl", withService("grant: {ttl: 0s}"), 5, "services[0].grant.ttl", "from 100ms"},
		{"no uses", withService("grant: {uses: 0}"), 5, "services[0].grant.uses", "from 1 to"},
		{"session", withService("session: maybe"), 5, "services[0].session", "write required or optional"},
		{"no protocols", withService("auth: {protocols: []}"), 5, "services[0].auth.protocols", "name v2, v1 or both"},
		{"unknown protocol", withService("auth: {protocols: [v3]}"), 5, "services[0].auth.protocols[0]", "write v2 or v1"},
		{"hint", withService("auth: {hint: maybe}"), 5, "services[0].auth.hint", "write route-hint or none"},
		{"no buckets", withService("auth: {buckets: []}"), 5, "services[0].auth.buckets", "or remove the key"},
		{"unknown bucket", withService("auth: {buckets: [128, 200]}"), 5, "services[0].auth.buckets[1]", "write 128, 192, 256, 384 or 512"},
		{"bucket of text", withService("auth: {buckets: [small]}"), 5, "services[0].auth.buckets[0]", "must be a whole number"},
		{"deadline", withService("auth: {deadline: 99ms}"), 5, "services[0].auth.deadline", "from 100ms to 1m0s"},
		{"too many trials", manyClients(13, "auth: {hint: none}"), 17, "services[0].auth.hint", "13 clients in 5 buckets would be 65"},
		{"dial timeout", withService("dial_timeout: 0s"), 5, "services[0].dial_timeout", "from 100ms to 1m0s"},
	}
}

// limitErrors are errors in the sections limits and ban.
func limitErrors() []errorCase {
	return []errorCase{
		{"unknown limit", minimal + "limits: {flow: 1}\n", 6, "limits", "did you mean flows?"},
		{"no grants for clients", minimal + "limits: {grants_per_client: 0}\n", 6, "limits.grants_per_client", "from 1 to 65536"},
		{"no flows for clients", minimal + "limits: {flows_per_client: 0}\n", 6, "limits.flows_per_client", "from 1 to 65536"},
		{"no grants for sources", minimal + "limits: {grants_per_source: 0}\n", 6, "limits.grants_per_source", "from 1 to 65536"},
		{"too many flows for sources", minimal + "limits: {flows_per_source: 65537}\n", 6, "limits.flows_per_source", "from 1 to 65536"},
		{"too many flows", minimal + "limits: {flows: 1048577}\n", 6, "limits.flows", "from 1 to 1048576"},
		{"too few knocks", minimal + "limits: {knocks: 63}\n", 6, "limits.knocks", "from 64 to 65536"},
		{"limits without keys", minimal + "limits: 5\n", 6, "limits", "its keys are grants_per_client, flows_per_client"},
		{"ban after less than none", minimal + "ban: {after: -1}\n", 6, "ban.after", "from 0 to 1000"},
		{"ban within no time", minimal + "ban: {within: 0s}\n", 6, "ban.within", "from 1s to 24h0m0s"},
		{"ban for a number", minimal + "ban: {for: 60}\n", 6, "ban.for", "write 60s for seconds"},
		{"ban for ever", minimal + "ban: {for: 721h}\n", 6, "ban.for", "from 1s to 720h0m0s"},
		{"unknown key of a ban", minimal + "ban: {afer: 1}\n", 6, "ban", "did you mean after?"},
	}
}

// endpointErrors are errors in the sections control and metrics.
func endpointErrors() []errorCase {
	return []errorCase{
		{"long socket", minimal + "control: {socket: /" + strings.Repeat("a", 103) + "}\n", 6, "control.socket", "at most 103; choose a shorter one"},
		{"metrics without address", minimal + `metrics: {listen: ":9091"}`, 6, "metrics.listen", "write it as 127.0.0.1:9091"},
		{"metrics without port", minimal + `metrics: {listen: "127.0.0.1"}`, 6, "metrics.listen", "write it as 127.0.0.1:9091"},
		{"metrics on a name", minimal + `metrics: {listen: "localhost:9091"}`, 6, "metrics.listen", "write it as 127.0.0.1:9091"},
		{"metrics on a protected address", minimal + `metrics: {listen: "10.77.0.9:9091"}`, 6, "metrics.listen", "choose an address of this host"},
	}
}
