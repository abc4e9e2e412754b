package migrate

import (
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/internal/strictyaml"
	"github.com/knockgw/knockgw/protocol"
)

// What both sides have in common: the mode, how to knock, how to authenticate.

// The modes, as our files spell them.
const (
	modeAuth      = "auth"
	modeKnock     = "knock"
	modeKnockAuth = "knock-auth"
)

// mode is what a client must do, and whether strangers see the port.
type mode struct {
	name    string
	visible bool
}

func (m mode) knocks() bool        { return m.name != modeAuth }
func (m mode) authenticates() bool { return m.name != modeKnock }

// readMode reads access: proxy and direct, which require_tcp_auth may change,
// or a mode of libknock's gate, which nothing changes.
func (c *conversion) readMode() mode {
	text, given := c.text("access.mode")
	if !given {
		text = "proxy"
	}
	var m mode
	switch text {
	case "proxy":
		m.name = modeKnock
		if c.flag("access.require_tcp_auth", true) {
			m.name = modeKnockAuth
		}
	case "direct":
		m.name = modeKnock
		if c.flag("access.require_tcp_auth", false) {
			m.name = modeKnockAuth
			c.note("access.require_tcp_auth", "knock-proxy refuses it in mode direct; the mode became %s", m.name)
		}
	case "auth-only":
		m.name = modeAuth
	case "knock-firewall-only":
		m.name = modeKnock
	case "knock-firewall-auth":
		m.name = modeKnockAuth
	case "knock-auth-only":
		m = mode{modeKnockAuth, true}
	default:
		c.fail("access.mode", "%q is not known; write proxy, direct, auth-only, knock-auth-only, knock-firewall-only or knock-firewall-auth", text)
		return mode{name: modeKnockAuth}
	}
	if given {
		seen := ""
		if m.visible {
			seen = ", visible: true"
		}
		c.note("access.mode", "%s became mode: %s%s", text, m.name, seen)
	}
	return m
}

// readMethod reads how to knock, in libknock's spelling.
func (c *conversion) readMethod() string {
	text, given := c.text("knock.method")
	if !given {
		c.noteFile("knock.method is absent, and stands for %s on servers and on clients with Linux; on other clients it is %s",
			protocol.MethodTCPSYN, protocol.MethodUDP)
		return protocol.MethodTCPSYN
	}
	method, err := protocol.ParseMethod(text)
	if err != nil || method == protocol.MethodTCPAuth || method == protocol.MethodUDPv2 {
		c.fail("knock.method", "%q is not a knock method of libknock; write udp, udp-seq, udp-passive, udp-passive-seq, tcp-syn or tcp-syn-seq", text)
		return protocol.MethodUDP
	}
	return method
}

// isSYN reports whether a method knocks with SYNs.
func isSYN(method string) bool {
	return method == protocol.MethodTCPSYN || method == protocol.MethodTCPSYNSeq
}

// The window's default and most, in libknock and in knockgw.
const (
	defaultWindow = protocol.DefaultWindow
	maxWindow     = 5 * time.Minute
)

// readWindow reads how far the clocks may differ. For SYN methods it is the
// length of the slots too, which must be the same on both sides to the second.
func (c *conversion) readWindow(m mode, method string) time.Duration {
	if m.knocks() && isSYN(method) {
		return c.readSlot()
	}
	auth, knock := defaultWindow, time.Duration(0)
	if d := c.seconds("auth.time_window_seconds", "knock.window", maxWindow); d > 0 {
		auth = d
	}
	if !m.knocks() {
		return auth
	}
	if knock = c.seconds("knock.time_window_seconds", "knock.window", maxWindow); knock == 0 {
		knock = defaultWindow
	}
	if !m.authenticates() || knock == auth {
		return knock
	}
	window := max(knock, auth)
	path := "knock.time_window_seconds"
	if !c.has(path) {
		path = "auth.time_window_seconds"
	}
	c.note(path, "knockgw has one window for knocks and authentication: the longer of the two, %s", formatDuration(window))
	return window
}

func (c *conversion) readSlot() time.Duration {
	const path = "knock.time_window_seconds"
	v, ok := c.number(path)
	if !ok {
		return defaultWindow
	}
	if v > int(maxWindow/time.Second) {
		c.fail(path, "a slot of %d s is more than knockgw has, %d s, and both sides must have the same; shorten it on all sides first",
			v, int(maxWindow/time.Second))
	}
	return time.Duration(v) * time.Second
}

// authentication is how a stream begins.
type authentication struct {
	protocol string // "v1", "v2" or "" for either
	hint     string // "" for the default
	buckets  []int  // nil for the default
}

// readAuth reads the formats of authentication.
func (c *conversion) readAuth() (a authentication) {
	if text, ok := c.text("auth.protocol"); ok {
		switch text {
		case "tcp-auth-frame-v1":
			a.protocol = "v1"
		case "tcp-auth-envelope-v2":
			a.protocol = "v2"
		default:
			c.fail("auth.protocol", "%q is not known; write tcp-auth-envelope-v2 or tcp-auth-frame-v1", text)
		}
	}
	if text, ok := c.text("auth.hint_mode"); ok {
		if !protocol.HintMode(text).Valid() {
			c.fail("auth.hint_mode", "%q is not known; write route-hint or none", text)
		} else if text != string(protocol.HintRoute) {
			a.hint = text
		}
	}
	n := c.use("auth.buckets")
	if n == nil {
		return a
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		c.fail("auth.buckets", "must be a list of sizes, as [128, 256]")
		return a
	}
	for _, item := range n.Content {
		size, err := strconv.Atoi(strictyaml.Resolve(item).Value)
		if err != nil || !slices.Contains(protocol.DefaultBuckets(), size) {
			c.Fail(item, "auth.buckets", "is not a bucket; write 128, 192, 256, 384 or 512")
			continue
		}
		if !slices.Contains(a.buckets, size) {
			a.buckets = append(a.buckets, size)
		}
	}
	slices.Sort(a.buckets)
	return a
}

// readEncryption warns of what was encrypted and is so no longer.
func (c *conversion) readEncryption() {
	const path = "transport.encryption"
	if !c.has(path) {
		return
	}
	if !c.flag(path, false) {
		c.note(path, "was off: what is relayed goes through as it is, with knockgw too")
		return
	}
	other := "its clients must set it to false"
	if !c.result.Server {
		other = "it can only be used once the server has it set to false"
	}
	c.warn(path, "knockgw DOES NOT ENCRYPT what it relays, and this has no counterpart: whoever is on the way reads and changes it. "+
		"Have the service itself speak TLS or SSH; and %s, as an encrypting side and one that does not cannot talk to each other", other)
}
