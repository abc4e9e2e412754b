package guard_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

func TestGuardAdmitsClientInEveryMode(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1", "::"} {
		t.Run(host, func(t *testing.T) {
			w := newHarness(t, host)
			for _, port := range []uint16{open, quiet, api, private, sequences, modern} {
				near, far := w.connect(alice, port)
				if id := far.Peer().ClientID(); id != "alice" {
					t.Errorf("port %d: %q", port, id)
				}
				if _, err := io.WriteString(near, "request"); err != nil {
					t.Error(err)
				}
				_ = near.(*net.TCPConn).CloseWrite()
				if b, err := io.ReadAll(far); string(b) != "request" || err != nil {
					t.Errorf("port %d: %q, %v", port, b, err)
				}
				_, _ = io.WriteString(far, "reply")
				if err := far.CloseWrite(); err != nil {
					t.Error(err)
				}
				if b, err := io.ReadAll(near); string(b) != "reply" || err != nil {
					t.Errorf("port %d: %q, %v", port, b, err)
				}
				_ = near.Close()
				_ = far.Close()
				_ = far.Close()
			}
			w.empty()
		})
	}
}

// An IPv4 client of a dual-stack socket is the same for the knock and for the
// connection.
func TestGuardDualStackSocket(t *testing.T) {
	w := newHarness(t, "::")
	_, port, _ := net.SplitHostPort(w.addrs[quiet])
	w.addrs[quiet] = net.JoinHostPort("127.0.0.1", port)
	near, far := w.connect(alice, quiet)
	_ = near.Close()
	_ = far.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) == 0 {
		t.Error("no knock was reported")
	}
	for _, e := range w.events { // of more attempts than one, if the machine is busy
		if e.Source != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("%+v", e)
		}
	}
}

func TestGuardResetsConnWithoutKnock(t *testing.T) {
	w := newHarness(t, "127.0.0.1")
	start := time.Now()
	w.refused(net.Dial("tcp", w.addrs[quiet]))
	if took := time.Since(start); took > timeout/4 {
		t.Errorf("reset after %v", took)
	}
	for _, mistake := range []func(d *client.Dialer){
		func(d *client.Dialer) { d.Identity = carol },
		func(d *client.Dialer) { d.Port = api },
		func(d *client.Dialer) { d.Method = protocol.MethodUDPSeq; d.Sequence.Gap = time.Millisecond },
		func(d *client.Dialer) { d.Now = func() time.Time { return time.Now().Add(-time.Minute) } },
	} {
		d := w.dialer(alice, quiet)
		mistake(d)
		w.refused(d.DialContext(t.Context(), "tcp", w.addrs[quiet]))
	}
	if n := w.result(auth.ResultUnauthorized); n != 5 {
		t.Errorf("%d refusals reported", n)
	}
}

func TestGuardGrantIsForOneConn(t *testing.T) {
	w := newHarness(t, "127.0.0.1")
	near, far := w.connect(alice, quiet)
	w.refused(net.Dial("tcp", w.addrs[quiet]))
	_ = near.Close()
	_ = far.Close()
}

func TestGuardRefusesCapturedKnock(t *testing.T) {
	w := newHarness(t, "127.0.0.1")
	socket, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", portText(w.knocks)))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	datagram, err := protocol.AppendKnock(nil, alice, quiet, &protocol.KnockMessage{Method: protocol.MethodUDP, Time: time.Now().UnixMilli()}, nonces{})
	if err != nil {
		t.Fatal(err)
	}
	d := w.dialer(alice, quiet)
	for i := range 3 {
		_, _ = socket.Write(datagram)
		conn, err := d.Net.DialContext(t.Context(), "tcp", w.addrs[quiet])
		if i > 0 {
			w.refused(conn, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = (<-w.accepts[quiet]).Close()
		_ = conn.Close()
	}
	_ = socket.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := socket.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("an answer to a knock: %d bytes, %v", n, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var results []guard.KnockResult
	for _, e := range w.events {
		results = append(results, e.Result)
	}
	if want := []guard.KnockResult{guard.KnockOK, guard.KnockReplay, guard.KnockReplay}; !slices.Equal(results, want) {
		t.Errorf("%v, want %v", results, want)
	}
}

func TestGuardWaitsForLateKnock(t *testing.T) {
	w := newHarness(t, "127.0.0.1")
	for _, port := range []uint16{quiet, api} {
		target := netip.MustParseAddrPort(w.addrs[port])
		d := w.dialer(alice, port)
		session, err := d.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", target.String())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // the gate has looked and found nothing
		var wait sync.WaitGroup
		wait.Go(func() {
			time.Sleep(20 * time.Millisecond)
			if err := d.Knock(t.Context(), target, session); err != nil {
				t.Error(err)
			}
		})
		if port == api {
			a := auth.Client{Identity: alice, Port: port, SessionID: session, Proof: true}
			if err := a.Handshake(t.Context(), conn); err != nil {
				t.Error(err)
			}
		}
		select {
		case far := <-w.accepts[port]:
			_ = far.Close()
		case <-time.After(timeout):
			t.Errorf("port %d: not admitted", port)
		}
		wait.Wait()
		_ = conn.Close()
	}
}

func TestGuardBindsAuthenticationToKnock(t *testing.T) {
	w := newHarness(t, "127.0.0.1")
	target := netip.MustParseAddrPort(w.addrs[api])
	knock := func(id *protocol.Client, session string) {
		if err := w.dialer(id, api).Knock(t.Context(), target, []byte(session)); err != nil {
			t.Fatal(err)
		}
	}
	try := func(a auth.Client) error {
		a.Port, a.Proof = api, true
		conn, err := net.Dial("tcp", target.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		return a.Handshake(t.Context(), conn)
	}
	knock(alice, "a session of alice")
	var wait sync.WaitGroup
	for name, a := range map[string]auth.Client{
		"another client":    {Identity: bob, SessionID: []byte("a session of alice")},
		"another session":   {Identity: alice, SessionID: []byte("another session...")},
		"no session":        {Identity: alice},
		"an unknown client": {Identity: carol, SessionID: []byte("a session of alice")},
	} {
		wait.Go(func() {
			if err := try(a); err == nil {
				t.Errorf("%s was admitted", name)
			}
		})
	}
	wait.Wait()
	if err := try(auth.Client{Identity: alice, SessionID: []byte("a session of alice")}); err != nil {
		t.Errorf("the others have used up alice's grant: %v", err)
	}
	_ = (<-w.accepts[api]).Close()
	w.empty()
}

func TestGuardServiceClients(t *testing.T) {
	w := newHarness(t, "127.0.0.1")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if conn, err := w.dialer(bob, private).DialContext(ctx, "tcp", w.addrs[private]); err == nil {
		_ = conn.Close()
		t.Error("bob is in alice's service")
	}
}

func TestGuardHundredConcurrentConns(t *testing.T) {
	const (
		each = 100
		// attempts allows for the knocks of a dialer that retries.
		attempts = 10
	)
	w := newHarness(t, "127.0.0.1", func(o *guard.Options) {
		o.Limits.KnocksPerSource = attempts * each
		for i := range o.Services {
			o.Services[i].Auth.Deadline = timeout // a hundred share the processors, with other tests at that
		}
	})
	for _, port := range []uint16{quiet, api} {
		for _, id := range []*protocol.Client{alice, bob} { // an unknown address may knock 64 times
			near, far := w.connect(id, port)
			_ = near.Close()
			_ = far.Close()
		}
		stop := w.greet(port)
		var wait sync.WaitGroup
		for i := range each {
			wait.Go(func() {
				if err := w.greeted([]*protocol.Client{alice, bob}[i%2], port); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		stop()
	}
	w.empty()
}

func TestGuardRefusesAfterRun(t *testing.T) {
	w := newHarness(t, "127.0.0.1")
	near, far := w.connect(alice, quiet)
	w.stop()
	if _, err := io.WriteString(far, "still here"); err != nil {
		t.Error(err)
	}
	_ = far.Close()
	if b, err := io.ReadAll(near); string(b) != "still here" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	_ = near.Close()
	if err := w.guard.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}

func TestGuardRunReportsClosedSocket(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	g, err := guard.New(guard.Options{
		Secrets: auth.NewSecrets(alice), Knocks: []net.PacketConn{socket},
		Services: []guard.Service{{Name: "quiet", Port: quiet, Mode: guard.ModeKnock}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.Close()
	if err := g.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestNewChecksOptions(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	defer socket.Close()
	one := func(s guard.Service) guard.Options {
		return guard.Options{Secrets: auth.NewSecrets(), Knocks: []net.PacketConn{socket}, Services: []guard.Service{s}}
	}
	for want, o := range map[string]guard.Options{
		"no Services":          {Secrets: auth.NewSecrets()},
		"set Secrets":          {Services: []guard.Service{{Name: "a", Port: 1}}},
		"set Port":             one(guard.Service{Name: "a"}),
		"there is no mode":     one(guard.Service{Name: "a", Port: 1, Mode: 7}),
		"takes no knocks":      one(guard.Service{Name: "a", Port: 1, Methods: []string{"udp"}}),
		"package gateway":      one(guard.Service{Name: "a", Port: 1, Mode: guard.ModeKnock, Methods: []string{"udp", "tcp-syn"}}),
		`knock method "telex"`: one(guard.Service{Name: "a", Port: 1, Mode: guard.ModeKnock, Methods: []string{"telex"}}),
		"is no knock method":   one(guard.Service{Name: "a", Port: 1, Mode: guard.ModeKnock, Methods: []string{"tcp-auth"}}),
		"Authorize would":      one(guard.Service{Name: "a", Port: 1, Mode: guard.ModeKnock, Authorize: func(auth.Peer) error { return nil }}),
		"UDP socket":           {Secrets: auth.NewSecrets(), Services: []guard.Service{{Name: "a", Port: 1, Mode: guard.ModeKnock}}},
		"have one port": {Secrets: auth.NewSecrets(), Services: []guard.Service{
			{Name: "a", Port: 1, Mode: guard.ModeAuth}, {Name: "b", Port: 1, Mode: guard.ModeAuth}}},
		"hint mode": one(guard.Service{Name: "a", Port: 1, Mode: guard.ModeAuth, Auth: guard.Auth{Hint: "loud"}}),
	} {
		if _, err := guard.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want something about %q", err, want)
		}
	}
	g, err := guard.New(one(guard.Service{Name: "a", Port: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Guard("b", nil, auth.ListenerOptions{}); err == nil {
		t.Error("a service that is not there was guarded")
	}
}

func TestGuardAuthorizeAndClientOptions(t *testing.T) {
	w := newHarness(t, "127.0.0.1", func(o *guard.Options) {
		for i := range o.Services {
			if s := &o.Services[i]; s.Mode != guard.ModeKnock {
				s.Authorize = func(p auth.Peer) error {
					if p.ClientID() != "alice" {
						return errors.New("not today")
					}
					return nil
				}
			}
		}
		o.Client = func(id string) (c guard.ClientOptions) {
			if id == "alice" {
				c.Hours = func(time.Time) bool { return true }
			}
			return c
		}
	})
	near, far := w.connect(alice, api)
	_ = near.Close()
	_ = far.Close()
	if conn, err := w.dialer(bob, api).DialContext(t.Context(), "tcp", w.addrs[api]); err == nil {
		_ = conn.Close()
		t.Error("bob is in")
	}
}
