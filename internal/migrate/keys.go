package migrate

// Notes that apply to several keys.
const (
	noFirewall = "No firewall is involved: knockgw reads the packets of its own device and drops what it does not admit. " +
		"Remove the rules of knock-proxy after stopping it"
	clientOnly = "is a key for clients and has no effect on a server; make a profile for each client (knockgw migrate with its file)"
	serverOnly = "is a key for servers; a profile has no counterpart"
	noEffect   = "has no effect with the other keys of this file, and was not converted"
)

// keys returns every key of knock-proxy, with the note for a key that is not
// converted. The keys of auth for the newer formats have the names of libknock's
// options.
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
		"access.require_tcp_auth":           "has no effect in this mode, whose name determines whether it authenticates",
		"access.remove_after_first_connect": "limited a knock to the first connection. At the gateway, grant.uses is the number of connections for a knock",
		"access.max_connections_per_knock":  "is grant.uses at the gateway; clients do not need it",

		"knock.method":              "the mode takes no knocks",
		"knock.udp_listen":          "the gateway reads UDP knocks from the packets to the protected address, without a listening socket. This method needs no UDP port",
		"knock.udp_knock_port":      "this method needs no UDP port",
		"knock.udp_port":            "this method needs no UDP port",
		"knock.log_invalid_knock":   "invalid knocks are counted by reason at /metrics, not logged",
		"knock.timeout_seconds":     "limited one attempt of a client. knockgw's clients have one limit for a dial as a whole (--timeout, 10 s), and repeat the knock automatically",
		"knock.retry":               "knockgw's clients send fresh knocks automatically until they time out",
		"knock.time_window_seconds": "the mode takes no knocks",

		"auth.time_window_seconds": "is covered by knock.window, which applies to knocks and to authentication",
		"auth.nonce_cache_seconds": "knockgw remembers used knocks and frames for more than twice the window, and across a restart (state.dir)",
		"auth.protocol":            "the mode does not authenticate",
		"auth.hint_mode":           "the mode does not authenticate",
		"auth.buckets":             "the mode does not authenticate",

		"auth.clients[].client_id":       serverOnly,
		"auth.clients[].secret":          serverOnly,
		"auth.clients[].secret_file":     serverOnly,
		"auth.clients[].max_connections": serverOnly,

		"firewall.backend":             noFirewall,
		"firewall.port":                "the hidden port is that of the service's listen. " + noFirewall,
		"firewall.default_action":      "packets that are not admitted are always dropped. " + noFirewall,
		"firewall.allow_seconds":       "is grant.ttl at the gateway; clients do not need it",
		"firewall.remove_after_auth":   "grant.uses is the number of connections for a knock, each with its own authentication. " + noFirewall,
		"firewall.drop_udp_knock_port": "UDP knocks are never answered, and no socket listens at their port. " + noFirewall,
		"firewall.nftables":            noFirewall,
		"firewall.iptables":            noFirewall,
		"firewall.ipset":               noFirewall,
		"firewall.script":              "commands that do more than open a port have no counterpart. " + noFirewall,

		"transport.encryption": noEffect,
		"transport.method":     "knockgw relays the data of client and service unchanged",

		"limits.max_global_connections":     serverOnly,
		"limits.max_connections_per_ip":     serverOnly,
		"limits.max_connections_per_client": serverOnly,
		"limits.knock_rate_per_ip":          "rate limits are fixed: 32 datagrams per second from an address without a valid knock (burst 64), and the cost of rejecting one does not depend on the number of clients",
		"limits.auth_fail_ban_seconds":      serverOnly,
		"limits.max_tracked_ips":            "the table of addresses has a fixed limit, and no address displaces one with a valid knock",
		"limits.max_nonce_entries":          "each client has its own limit of remembered knocks, so that one client cannot lock out another",

		"timeouts.connect_seconds":          "knockgw's clients have one limit for a dial as a whole: 10 s (--timeout)",
		"timeouts.upstream_connect_seconds": serverOnly,
		"timeouts.auth_seconds":             "is included in the limit for a dial as a whole: 10 s (--timeout)",
		"timeouts.idle_seconds":             "the gateway ends idle connections: services[].idle",

		"metrics.enabled": serverOnly,
		"metrics.listen":  "metrics were off, and remain off",
		"metrics.path":    "is always /metrics",

		"log.level":  "is set on the command line of a gateway: knockgw run --log-level",
		"log.format": "is set on the command line of a gateway: knockgw run --log-format",
		"log.file":   "the log goes to standard error, which systemd or a shell can redirect",
	}
}
