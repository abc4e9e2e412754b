package migrate

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/address"
	"github.com/knockgw/knockgw/protocol"
)

// ConfigName is the file name of the configuration in a server's Result.
const ConfigName = "knockgw.yaml"

// The limits of a configuration (docs/configuration.md).
const (
	maxGrantTTL = 24 * time.Hour
	maxUses     = 65536
	maxIdle     = 7 * 24 * time.Hour
	maxDial     = time.Minute
	maxDeadline = time.Minute
	maxBan      = 30 * 24 * time.Hour
	maxShare    = 65536
	maxFlows    = 1 << 20
)

// stateDir is where used knocks are stored, so that they remain used after a
// restart.
const stateDir = "/var/lib/knockgw"

// convertServer converts the file of a server to a configuration.
func (c *conversion) convertServer() {
	m := c.readMode()
	method := ""
	if m.knocks() {
		method = c.readMethod()
	}
	window := c.readWindow(m, method)
	where := c.readAddresses()
	d := &document{Version: 1, State: stateDoc{stateDir}}
	d.TUN.Routes = []string{netip.PrefixFrom(where.listen.Addr(), where.listen.Addr().BitLen()).String()}
	d.Services = []serviceDoc{c.convertService(m, method, where)}
	d.Knock = c.convertKnock(m, method, window, where)

	creds := c.convertClients(d)
	d.Limits = nonZero(limitsDoc{
		FlowsPerClient: c.bounded("limits.max_connections_per_client", "limits.flows_per_client", maxShare),
		FlowsPerSource: c.bounded("limits.max_connections_per_ip", "limits.flows_per_source", maxShare),
		Flows:          c.bounded("limits.max_global_connections", "limits.flows", maxFlows),
	})
	if ban := c.seconds("limits.auth_fail_ban_seconds", "ban.for", maxBan); ban > 0 {
		d.Ban = &banDoc{formatDuration(ban)}
		c.note("limits.auth_fail_ban_seconds", "became ban.for; ban.after and ban.within are the number of failures and the time, and a ban does not block valid knocks")
	}
	d.Metrics = c.convertMetrics(where.listen.Addr())
	c.readEncryption()
	if c.Failures() == 0 {
		c.finishServer(d, creds)
	}
}

// convertService returns the service of a server.
func (c *conversion) convertService(m mode, method string, where endpoints) serviceDoc {
	s := serviceDoc{
		Name: c.serviceName(where.upPort), Listen: where.listen.String(), Upstream: where.upstream,
		Mode: m.name, Visible: m.visible,
		Idle:        optionalDuration(c.seconds("timeouts.idle_seconds", "services[].idle", maxIdle)),
		DialTimeout: optionalDuration(c.seconds("timeouts.upstream_connect_seconds", "services[].dial_timeout", maxDial)),
	}
	if where.port != where.listen.Port() {
		s.Port = where.port
	}

	if m.knocks() {
		s.Knock = []string{protocol.MethodFamily(method)}
		s.Grant = c.convertGrant(m)
		if m.authenticates() && !isSYN(method) {
			s.Session = "optional"
			c.noteFile("session: optional accepts knocks without a session id, which some libknock clients send. " +
				"Write session: required when every client sends one, as knockgw's do: a knock is then valid only for its own connection")
		}
	}

	if m.authenticates() {
		s.Auth = c.convertAuth()
	} else if path := "timeouts.auth_seconds"; c.has(path) {
		c.note(path, "the mode does not authenticate")
	}
	return s
}

func optionalDuration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return formatDuration(d)
}

func (c *conversion) convertGrant(m mode) *grantDoc {
	const uses, first = "access.max_connections_per_knock", "access.remove_after_first_connect"
	g := grantDoc{
		TTL:  optionalDuration(c.seconds("firewall.allow_seconds", "grant.ttl", maxGrantTTL)),
		Uses: c.bounded(uses, "grant.uses", maxUses),
	}
	if c.has(first) {
		once := c.flag(first, true)
		switch {
		case once && g.Uses > 1:
			c.note(first, "contradicts max_connections_per_knock; grant.uses is the latter, %d", g.Uses)
		case !once && g.Uses <= 1:
			c.note(first, "limited a knock only by time. A grant is also limited to a number of connections: set grant.uses for more than one")
		}
	}
	if path := "firewall.remove_after_auth"; m.authenticates() && c.has(path) && !c.flag(path, true) && g.Uses <= 1 {
		c.note(path, "limited a knock only by time. A grant is also limited to a number of connections: set grant.uses for more than one")
	}
	return nonZero(g)
}

func (c *conversion) convertAuth() *authDoc {
	a := c.readAuth()
	d := authDoc{Hint: a.hint, Buckets: a.buckets,
		Deadline: optionalDuration(c.seconds("timeouts.auth_seconds", "auth.deadline", maxDeadline))}
	if a.protocol != "" {
		d.Protocols = []string{a.protocol}
	}
	if d.Protocols == nil && d.Hint == "" && d.Buckets == nil && d.Deadline == "" {
		return nil
	}
	return &d
}

// serviceName returns the requested name, or a name for a well-known port of
// the upstream.
func (c *conversion) serviceName(upstream uint16) string {
	if name := c.options.Service; name != "" {
		if sanitize(name) != name {
			c.FailFile(nil, "--service: %q is not a name; use 1 to %d letters, digits, -, _ and .", name, maxName)
		}
		return name
	}
	known := map[uint16]string{22: "ssh", 80: "http", 443: "https", 3306: "mysql", 3389: "rdp", 5432: "postgres", 6379: "redis"}
	if name := known[upstream]; name != "" {
		return name
	}
	return defaultService
}

// defaultService is the name of a service whose port is not well known.
const defaultService = "service"

// convertKnock returns the section knock, or nil if it has only defaults.
func (c *conversion) convertKnock(m mode, method string, window time.Duration, where endpoints) *knockDoc {
	d := knockDoc{}
	if window != defaultWindow {
		d.Window = formatDuration(window)
	}
	if m.knocks() && !isSYN(method) {
		if port := c.readKnockPort(method, where); port != where.listen.Port() {
			d.UDPPort = port
		}
	}
	if method == protocol.MethodTCPSYNSeq && window != defaultWindow {
		d.Sequence = &sequenceDoc{formatDuration(window)}
	}
	return nonZero(d)
}

// convertClients adds the clients to the document, and returns their secrets.
func (c *conversion) convertClients(d *document) []credential {
	var creds []credential
	lines := map[string]int{}
	for i := range c.counts["auth.clients"] {
		path := fmt.Sprintf("auth.clients[%d]", i)
		id, ok := c.text(path + ".client_id")
		if !ok {
			c.fail(path+".client_id", "is missing; name the client")
		} else if line := lines[id]; line != 0 {
			c.fail(path+".client_id", "%q is already the client of line %d; give each client its own id", id, line)
		} else {
			lines[id] = c.leaves[path+".client_id"].key.Line
		}

		cred, ok := c.readSecret(path)
		if !ok {
			continue
		}
		creds = append(creds, cred)
		d.Clients = append(d.Clients, clientDoc{ID: id, MaxFlows: c.bounded(path+".max_connections", "clients[].max_flows", maxShare)})
	}
	if len(d.Clients) == 0 && c.Failures() == 0 {
		c.noteFile("there are no clients, so no connection will be admitted")
	}
	return creds
}

// convertMetrics returns the section metrics, or nil if metrics are off.
func (c *conversion) convertMetrics(listen netip.Addr) *metricsDoc {
	const enabled, at, path = "metrics.enabled", "metrics.listen", "metrics.path"
	if !c.flag(enabled, false) {
		return nil
	}
	text, ok := c.text(at)
	if !ok {
		text = "127.0.0.1:9090" // knock-proxy's default
	}
	if p, ok := c.text(path); ok && p != "/metrics" {
		c.note(path, "metrics are always at /metrics; change the configuration of the scraper")
	}

	host, port, err := address.Split(text, 9090)
	if err != nil {
		c.fail(at, "%q: %v", text, err)
		return nil
	}
	if host == "" {
		host = "::" // as in Go
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr == listen {
		c.fail(at, "%q must be an unprotected address of this host, such as 127.0.0.1:9090", text)
		return nil
	}
	return &metricsDoc{netip.AddrPortFrom(addr, port).String()}
}

// finishServer checks the configuration with its parser, secrets included, and
// returns it with the secrets in separate files.
func (c *conversion) finishServer(d *document, creds []credential) {
	for i := range d.Clients {
		d.Clients[i].Secret = creds[i].secret.Reveal()
	}
	whole, err := d.encode(c.File())
	if err != nil {
		c.FailFile(err, "the result cannot be encoded: %v", err)
		return
	}
	conf, err := config.Parse(ConfigName, whole)
	if err != nil {
		c.FailFile(nil, "a gateway would reject the result: %v", err)
		return
	}
	for _, w := range conf.Warnings {
		c.noteFile("knockgw check will warn: %s", w)
	}

	names := keyFiles{taken: map[string]bool{ConfigName: true}}
	var keys []File
	for i := range d.Clients {
		client, cred := &d.Clients[i], creds[i]
		client.Secret, client.SecretFile = "", cred.file
		if cred.file != "" {
			continue
		}
		client.SecretFile = names.name(client.ID, i)
		if c.options.TextOnly {
			c.note(cred.path, "secrets are not printed: write this one to %s, next to the configuration and with mode 0600, or use --out-dir", client.SecretFile)
			continue
		}
		c.note(cred.path, "was moved from the configuration to %s", client.SecretFile)
		keys = append(keys, File{client.SecretFile, []byte(cred.secret.Reveal() + "\n")})
	}

	text, err := d.encode(c.File())
	if err != nil {
		c.FailFile(err, "the result cannot be encoded: %v", err)
		return
	}
	c.result.Files = append([]File{{ConfigName, text}}, keys...)
	c.noteFile("route %s to this host, which routes it to knockgw's device; see docs/migrating.md", d.TUN.Routes[0])
}
