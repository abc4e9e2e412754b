//go:build linux

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	knockPort = 62201
	// admitTime is how long an authorized client may take to be admitted, on a
	// busy machine.
	admitTime = 10 * time.Second
	// refuseTime is how long an attacker waits at a hidden endpoint. It is
	// longer than a SYN waits for a knock, and than the kernel waits before it
	// sends the SYN again.
	refuseTime = 1500 * time.Millisecond
	// authDeadline is what the configurations below give an authentication.
	authDeadline = 2 * time.Second
)

// An endpoint is a service of the gateway under test.
type endpoint struct {
	name     string
	listen   netip.AddrPort
	mode     string
	visible  bool
	upstream string
	methods  []string // of knocking; nil means udp
	extra    []string // further lines of its configuration
}

// knocks and authenticates say what the endpoint demands, and hidden whether it
// is silent to an attacker's SYN.
func (d endpoint) knocks() bool        { return d.mode != "auth" }
func (d endpoint) authenticates() bool { return d.mode != "knock" }
func (d endpoint) hidden() bool        { return d.mode != "auth" && !d.visible }

// endpoints makes an endpoint of every kind in both families, all before one
// upstream.
func endpoints(upstream string) []endpoint {
	var all []endpoint
	for _, host := range []string{"10.77.0.1", "fd77::1"} {
		family := "v4"
		addr := netip.MustParseAddr(host)
		if addr.Is6() {
			family = "v6"
		}
		for i, d := range []endpoint{
			{name: "auth", mode: "auth"},
			{name: "knock", mode: "knock"},
			{name: "knock-auth", mode: "knock-auth"},
			{name: "knock-auth-visible", mode: "knock-auth", visible: true},
		} {
			d.name += "-" + family
			d.listen = netip.AddrPortFrom(addr, uint16(8001+i))
			d.upstream = upstream
			all = append(all, d)
		}
	}
	return all
}

// The clients of every configuration here. Bob is known, and let in nowhere.
const (
	aliceSecret = "alice's secret, thirty-two bytes"
	bobSecret   = "bob's secret, thirty-two bytes.."
)

// configuration is the site's part of a configuration with these endpoints.
func configuration(all ...endpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "knock: {udp_port: %d, window: 30s}\n", knockPort)
	fmt.Fprintf(&b, "clients:\n  - {id: alice, secret: %q, services: [", aliceSecret)
	for _, d := range all {
		fmt.Fprintf(&b, "%s, ", d.name)
	}
	// Bob's one service has no upstream and no other client.
	fmt.Fprintf(&b, "]}\n  - {id: bob, secret: %q, services: [bobs]}\n", bobSecret)
	bobs := endpoint{name: "bobs", listen: netip.MustParseAddrPort("10.77.0.200:9999"), mode: "knock",
		upstream: "10.1.3.2:9"}
	b.WriteString(services(append([]endpoint{bobs}, all...)...))
	return b.String()
}

// services is the endpoints' part of a configuration.
func services(all ...endpoint) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for _, d := range all {
		fmt.Fprintf(&b, "  - name: %s\n    listen: %q\n    upstream: %q\n    mode: %s\n", d.name, d.listen,
			d.upstream, d.mode)
		if d.visible {
			b.WriteString("    visible: true\n")
		}
		if d.knocks() {
			methods := d.methods
			if methods == nil {
				methods = []string{protocol.MethodUDP}
			}
			fmt.Fprintf(&b, "    knock: [%s]\n", strings.Join(methods, ", "))
		}
		if d.authenticates() {
			fmt.Fprintf(&b, "    auth: {protocols: [v2, v1], hint: route-hint, proof: true, deadline: %s}\n",
				authDeadline)
		}
		for _, line := range d.extra {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	return b.String()
}

// alice is the client that may use every endpoint.
func alice(h *lab.Host) lab.Peer {
	return lab.Peer{Host: h, ID: "alice", Secret: []byte(aliceSecret), KnockPort: knockPort}
}

// enter does what an endpoint demands, knock and SYN without a pause between
// them.
func (d endpoint) enter(ctx context.Context, v lab.Peer) (net.Conn, error) {
	var session []byte
	if d.authenticates() {
		session = lab.NewSession()
	}
	if d.knocks() {
		if err := v.Knock(ctx, d.listen, session); err != nil {
			return nil, fmt.Errorf("knock at %s: %w", d.name, err)
		}
	}
	return d.enterAs(ctx, v, session)
}

// enterAs is enter without the knock.
func (d endpoint) enterAs(ctx context.Context, v lab.Peer, session []byte) (conn net.Conn, err error) {
	if d.authenticates() {
		conn, err = v.DialAuth(ctx, d.listen, session)
	} else {
		conn, err = v.Dial(ctx, d.listen)
	}
	if err != nil {
		return nil, fmt.Errorf("enter %s: %w", d.name, err)
	}
	return conn, nil
}

// visit enters an endpoint, asks the upstream and leaves.
func (d endpoint) visit(ctx context.Context, v lab.Peer, greeting string) error {
	ctx, cancel := context.WithTimeout(ctx, admitTime)
	defer cancel()
	conn, err := d.enter(ctx, v)
	if err != nil {
		return err
	}
	got, err := question(conn, "hello")
	if err == nil && got != greeting {
		err = fmt.Errorf("%s answered %q", d.name, got)
	}
	return errors.Join(err, conn.Close())
}

// assertShut fails the test unless an endpoint stays shut for a peer that has
// prepared whatever it could, and which writes auth once it is connected. A
// hidden endpoint says nothing; an open one accepts the connection, says
// nothing, and ends it no sooner and not much later than at the deadline.
func (d endpoint) assertShut(t *testing.T, v lab.Peer, auth []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), refuseTime)
	defer cancel()
	if d.hidden() {
		conn, err := v.Dial(ctx, d.listen)
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s accepted a connection", d.name)
		} else if !timedOut(err) {
			t.Errorf("%s answered: %v", d.name, err)
		}
		return
	}
	conn, err := v.Dial(ctx, d.listen)
	if err != nil {
		t.Errorf("%s, which answers all sources, did not: %v", d.name, err)
		return
	}
	d.assertMute(t, conn, auth)
}

// assertMute fails the test unless an endpoint that has accepted a connection
// takes auth without a word and ends it at its deadline.
func (d endpoint) assertMute(t *testing.T, conn net.Conn, auth []byte) {
	t.Helper()
	defer closeConn(t, conn)
	began := time.Now()
	if _, err := conn.Write(append(auth, "hello\n"...)); err != nil {
		t.Errorf("%s: write an authentication: %v", d.name, err)
		return
	}
	if err := conn.SetReadDeadline(began.Add(authDeadline + answerTime)); err != nil {
		t.Error(err)
	}
	said, err := io.ReadAll(conn)
	took := time.Since(began)
	switch {
	case len(said) > 0:
		t.Errorf("%s said %q", d.name, said)
	case timedOut(err):
		t.Errorf("%s still holds a connection %v after its deadline", d.name, answerTime)
	case took < authDeadline*9/10:
		t.Errorf("%s ended a connection after %v, before its deadline: %v", d.name, took, err)
	}
}
