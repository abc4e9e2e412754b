package profile

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

func TestEndpointDialer(t *testing.T) {
	p := mustParse(t, fullProfile)
	endpoint, err := p.Find("10.77.0.7:22")
	if err != nil {
		t.Fatal(err)
	}
	d, err := endpoint.Dialer()
	if err != nil {
		t.Fatal(err)
	}
	if d.Identity.ID() != "älice" {
		t.Errorf("it is %v", d.Identity)
	}
	d.Identity = nil
	want := &client.Dialer{
		Method: "tcp-syn-seq", KnockPort: 1234, Port: 2222, Gateway: "edge-1", Slot: 20 * time.Second, KnockDelay: 50 * time.Millisecond,
		Sequence: client.Sequence{Length: 4, Gap: 100 * time.Millisecond, Slot: time.Minute, Legacy: true},
		Auth:     auth.Client{Protocol: auth.V1, Hint: protocol.HintNone, Buckets: []int{128, 512}, Proof: true},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
}

func TestEndpointDialerModes(t *testing.T) {
	for mode, want := range map[string][2]bool{"auth": {true, false}, "knock": {false, true}, "knock-auth": {}, "": {}} {
		p := mustParse(t, minimal)
		p.Services[0].Mode = mode
		endpoint := &Endpoint{Profile: p, Service: &p.Services[0], Address: "10.77.0.1:22"}
		d, err := endpoint.Dialer()
		if err != nil || [2]bool{d.NoKnock, d.NoAuth} != want {
			t.Errorf("%s: %+v, %v", mode, d, err)
		}
	}
}

func TestEndpointDialerInvalid(t *testing.T) {
	for name, spoil := range map[string]func(p *Profile){
		"mode":     func(p *Profile) { p.Services[0].Mode = "open" },
		"protocol": func(p *Profile) { p.Services[0].Auth.Protocol = "v3" },
		"secret":   func(p *Profile) { p.Secret = nil },
	} {
		p := mustParse(t, minimal)
		spoil(p)
		if d, err := (&Endpoint{Profile: p, Service: &p.Services[0]}).Dialer(); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// hiddenService starts a service in mode auth that echoes a line, and returns
// its profile.
func hiddenService(t *testing.T) *Profile {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := mustParse(t, strings.Replace(minimal, "10.77.0.1:22", inner.Addr().String(), 1)+"    mode: auth\n    port: 7\n    auth: {proof: true}\n")
	identity, err := protocol.NewClient(p.Client, p.Secret)
	if err != nil {
		t.Fatal(err)
	}
	l := auth.NewListener(inner, &auth.Server{Port: 7, Clients: slices.Values([]*protocol.Client{identity}), Proof: true}, auth.ListenerOptions{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello\n")
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return p
}

func TestProfileDialContext(t *testing.T) {
	p := hiddenService(t)
	for _, address := range []string{"ssh", "ssh:80", p.Services[0].Address} {
		conn, err := p.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if conn.Close(); err != nil || string(got) != "hello\n" {
			t.Errorf("%s: read %q, %v", address, got, err)
		}
	}
	if _, err := p.DialContext(t.Context(), "tcp", "mail:25"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown one: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.DialContext(ctx, "tcp", "ssh"); err == nil {
		t.Error("a context that has ended")
	}
}
