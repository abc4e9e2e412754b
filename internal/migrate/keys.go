package migrate

// What is said of the keys of a whole section.
const (
	noFirewall = "No firewall is involved: knockgw reads the packets of its own device and drops what it does not know. " +
		"Remove the rules of knock-proxy once it is off"
	clientOnly = "is a client's, and of no use to a server; make each client a profile (knockgw migrate with its file)"
	serverOnly = "is a server's, and a profile has no place for it"
	noEffect   = "has no effect with the other keys of this file, so nothing was made of it"
)

// keys is every key that knock-proxy knows, and what a note says of it where
// nothing was made of it. Those of auth for the newer formats are spelt as in
// the options of libknock.
func keys() map[string]string {
	return map[string]string{
		"mode": noEffect,

		"client.listen":             clientOnly,
		"client.server_addr":        clientOnly,
		"client.protected_tcp_port": clientOnly,
		"client.udp_server_addr":    clientOnly,
		"client.client_id":          clientOnly,
		"client.secret":             clientOnly,
		"client.secret_file":        clientOnly,

		"server.tcp_listen": serverOnly,
		"server.upstream":   serverOnly,

		"access.mode":                       noEffect,
		"access.require_tcp_auth":           "has no effect in this mode, which says by its name whether it authenticates",
		"access.remove_after_first_connect": "ended the opening after the first connection. A grant is used up by as many as grant.uses says, at the gateway",
		"access.max_connections_per_knock":  "is grant.uses at a gateway that takes knocks; clients need not know it",

		"knock.method":              "the mode takes no knocks",
		"knock.udp_listen":          "UDP knocks are sent to the protected address itself and read on their way; nothing listens. This method needs no UDP port",
		"knock.udp_knock_port":      "this method needs no UDP port",
		"knock.udp_port":            "this method needs no UDP port",
		"knock.log_invalid_knock":   "knocks that open nothing are counted by reason at /metrics, not logged",
		"knock.timeout_seconds":     "bounded one try of a client. knockgw's clients have one limit for all of reaching a service, and knock again by themselves",
		"knock.retry":               "knockgw's clients knock again by themselves, each time with a fresh knock, until their time is over",
		"knock.time_window_seconds": "the mode takes no knocks",

		"auth.time_window_seconds": "is covered by knock.window, which holds for knocks and authentication",
		"auth.nonce_cache_seconds": "knockgw keeps every used knock and frame for more than twice the window, however long that is, and through a restart (state.dir)",
		"auth.protocol":            "the mode does not authenticate",
		"auth.hint_mode":           "the mode does not authenticate",
		"auth.buckets":             "the mode does not authenticate",

		"auth.clients[].client_id":       serverOnly,
		"auth.clients[].secret":          serverOnly,
		"auth.clients[].secret_file":     serverOnly,
		"auth.clients[].max_connections": serverOnly,

		"firewall.backend":             noFirewall,
		"firewall.port":                "the port that was hidden is that of the service's listen. " + noFirewall,
		"firewall.default_action":      "whatever is not admitted is dropped, always. " + noFirewall,
		"firewall.allow_seconds":       "is grant.ttl at a gateway that takes knocks; clients need not know it",
		"firewall.remove_after_auth":   "a grant is used up by as many connections as grant.uses says, each by its own authentication. " + noFirewall,
		"firewall.drop_udp_knock_port": "UDP knocks are never answered, and no socket has their port. " + noFirewall,
		"firewall.nftables":            noFirewall,
		"firewall.iptables":            noFirewall,
		"firewall.ipset":               noFirewall,
		"firewall.script":              "what the commands did besides opening a port has no counterpart. " + noFirewall,

		"transport.encryption": noEffect,
		"transport.method":     "knockgw relays what the client and the service say to each other as it is",

		"limits.max_global_connections":     serverOnly,
		"limits.max_connections_per_ip":     serverOnly,
		"limits.max_connections_per_client": serverOnly,
		"limits.knock_rate_per_ip":          "budgets are fixed: 32 datagrams a second from an address that has not knocked well before (a burst of 64), and what it costs to refuse one does not grow with the number of clients",
		"limits.auth_fail_ban_seconds":      serverOnly,
		"limits.max_tracked_ips":            "what is remembered of addresses is bounded by itself, and no address takes the place of one that has knocked well",
		"limits.max_nonce_entries":          "used knocks have a share of their own for each client; a client that fills its share cannot shut out another",

		"timeouts.connect_seconds":          "knockgw's clients have one limit for all of reaching a service: 15 s",
		"timeouts.upstream_connect_seconds": serverOnly,
		"timeouts.auth_seconds":             "a client's authentication is bounded by the one limit for all of reaching a service: 15 s",
		"timeouts.idle_seconds":             "ending a silent connection is the gateway's: services[].idle",

		"metrics.enabled": serverOnly,
		"metrics.listen":  "metrics were off, and are",
		"metrics.path":    "is always /metrics",

		"log.level":  "is given on a gateway's command line: knockgw run --log-level",
		"log.format": "is given on a gateway's command line: knockgw run --log-format",
		"log.file":   "the log goes to standard error, where systemd or a shell takes it from",
	}
}
