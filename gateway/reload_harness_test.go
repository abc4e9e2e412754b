package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/protocol"
)

// caller returns an upstream that sends its name and then echoes every line.
func caller(t *testing.T, name string) string {
	t.Helper()
	return upstream(t, func(c net.Conn) {
		_, _ = io.WriteString(c, name+"\n")
		_, _ = io.Copy(c, c)
	})
}

// session is a session with the upstream caller.
type session struct {
	*testing.T
	conn  *gonet.TCPConn
	lines *bufio.Reader
	name  string // the caller's
}

// open starts a session of c with the service at a port.
func (h *harness) open(c *protocol.Client, home netip.Addr, port uint16) *session {
	h.Helper()
	conn, err := h.connectAs(c, home, port)
	if err != nil {
		h.Fatalf("from %v to port %d: %v", home, port, err)
	}
	h.Cleanup(func() { _ = conn.Close() })
	t := &session{T: h.T, conn: conn, lines: bufio.NewReader(conn)}
	t.name = t.read()
	return t
}

func (t *session) read() string {
	t.Helper()
	_ = t.conn.SetReadDeadline(time.Now().Add(timeout))
	line, err := t.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the session is over: %v", err)
	}
	return strings.TrimSpace(line)
}

// assertAlive fails the test unless the session continues.
func (t *session) assertAlive() {
	t.Helper()
	if _, err := t.conn.Write([]byte("and now\n")); err != nil {
		t.Fatalf("the session is over: %v", err)
	}
	if got := t.read(); got != "and now" {
		t.Fatalf("%q came back", got)
	}
}

// assertReset fails the test if the session receives anything but resets.
func (h *harness) assertReset(t *session, home netip.Addr) {
	h.Helper()
	before := h.receivedData(home)
	_, _ = t.conn.Write([]byte("and now\n"))
	_ = t.conn.SetReadDeadline(time.Now().Add(timeout))
	if _, err := t.conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		h.Errorf("its client hears %v", err)
	}
	time.Sleep(quietPeriod)
	if n := h.receivedData(home) - before; n != 0 {
		h.Errorf("its client was sent %d packets besides the reset", n)
	}
}

// at returns the configuration of a service in the first client's family.
func at(name string, port uint16, mode, upstream string) string {
	return fmt.Sprintf("  - {name: %s, listen: \"10.77.0.1:%d\", upstream: %q, %s, auth: {deadline: 5s}}\n", name, port, upstream, mode)
}

const (
	asAuth      = "mode: auth"
	asKnock     = "mode: knock"
	asKnockAuth = "mode: knock-auth"
	asVisible   = "mode: knock-auth, visible: true"
)

// allModes returns services in four modes with one upstream.
func allModes(upstream string) string {
	return at("auth", modeAuth, asAuth, upstream) + at("knock", modeKnock, asKnock, upstream) +
		at("knock-auth", modeKnockAuth, asKnockAuth, upstream) + at("visible", modeVisible, asVisible, upstream)
}

// reload applies another configuration.
func (h *harness) reload(text string) config.Changes {
	h.Helper()
	changes, err := h.gw.Reload(parseConfig(h.T, text))
	if err != nil {
		h.Fatalf("reload: %v", err)
	}
	return changes
}
