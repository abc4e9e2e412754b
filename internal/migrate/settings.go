package migrate

import (
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/internal/strictyaml"
	"github.com/knockgw/knockgw/protocol"
)

// Settings of both servers and clients: the mode, knocks and authentication.

// The names of the modes in our files.
const (
	modeAuth      = "auth"
	modeKnock     = "knock"
	modeKnockAuth = "knock-auth"
)

// mode is how clients identify themselves, and whether unauthorized hosts see
// the port.
type mode struct {
	name    string
	visible bool
}

func (m mode) knocks() bool        { return m.name != modeAuth }
func (m mode) authenticates() bool { return m.name != modeKnock }

// readMode reads access.mode: proxy or direct, which require_tcp_auth may
// modify, or a mode of libknock's gateway, which it does not.
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
			c.note("access.require_tcp_auth", "knock-proxy rejects it in mode direct; the mode became %s", m.name)
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

// readMethod reads the knock method, with libknock's name.
func (c *conversion) readMethod() string {
	text, given := c.text("knock.method")
	if !given {
		c.noteFile("knock.method is absent; the default is %s on servers and on Linux clients, and %s on other clients",
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

// The default and the maximum of the window, in libknock and in knockgw.
const (
	defaultWindow = protocol.DefaultWindow
	maxWindow     = 5 * time.Minute
)

// readWindow reads the maximum clock difference. For SYN methods it is also the
// length of the slots, which must be equal on both sides.
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
		c.fail(path, "a slot of %d s exceeds the maximum of knockgw, %d s, and both sides must have the same; shorten it on all sides first",
			v, int(maxWindow/time.Second))
	}
	return time.Duration(v) * time.Second
}

// authentication configures the authentication.
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
		c.fail("auth.buckets", "must be a list of sizes, such as [128, 256]")
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

// readEncryption warns if connections were encrypted and no longer will be.
func (c *conversion) readEncryption() {
	const path = "transport.encryption"
	if !c.has(path) {
		return
	}
	if !c.flag(path, false) {
		c.note(path, "was off: data is relayed unencrypted, as with knockgw")
		return
	}
	other := "the clients must set it to false"
	if !c.result.Server {
		other = "the profile only works when the server has it set to false"
	}
	c.warn(path, "knockgw DOES NOT ENCRYPT what it relays, and this key has no counterpart: anyone on the path can read and modify the data. "+
		"Use TLS or SSH in the service itself. Also, %s, since an encrypting side is incompatible with one that does not encrypt", other)
}
