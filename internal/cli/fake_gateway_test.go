package cli

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
)

// fakeGateway is a gateway at a control socket, with one flow, one grant and one
// denied attempt.
type fakeGateway struct {
	config string // the file that it runs on
	result control.Result
}

// newFakeGateway starts a fakeGateway, on a configuration with the client alice
// and the service ssh.
func newFakeGateway(t *testing.T) *fakeGateway {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs unix sockets with paths")
	}
	dir, err := os.MkdirTemp("", "knockgw-") // short enough for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &fakeGateway{config: filepath.Join(dir, "knockgw.yaml")}
	text := "tun: {routes: [10.77.0.0/24]}\ncontrol: {socket: s}\nclients: [{id: alice, secret: 0123456789abcdef}]\nservices:\n" +
		`  - {name: ssh, listen: "10.77.0.1:22", upstream: "10.0.2.2:22"}` + "\n"
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.result = control.Result{Config: g.config, Warnings: []string{}, Changes: config.Changes{
		Services: config.Difference{Added: []string{"ssh"}}, PendingRestart: []string{"tun.mtu"},
	}}
	s, err := control.Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, g) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return g
}

var (
	clientAddr = netip.MustParseAddrPort("10.1.1.2:50122")
	deniedAddr = netip.MustParseAddr("fd01:1::2")
)

func (g *fakeGateway) Status() control.Status {
	return control.Status{Version: "v1", Go: "go1", Since: time.Unix(1, 0), PendingRestart: []string{}, Problems: []string{}, Ready: true}
}

func (g *fakeGateway) Reload(string) (*control.Result, error) {
	r := g.result
	r.Applied, r.Flows = true, 2
	return &r, nil
}

func (g *fakeGateway) Check() (*control.Result, error) {
	r := g.result
	return &r, nil
}

func (*fakeGateway) Flows(context.Context, time.Duration) control.Flows {
	return control.Flows{Flows: []control.Flow{{Client: "alice", Source: clientAddr, Service: "ssh", Target: clientAddr, Received: 3 << 10}}}
}

func (*fakeGateway) Grants() control.Grants {
	return control.Grants{Grants: []control.Grant{{Client: "alice", Service: "ssh", Source: clientAddr.Addr()}}}
}

func (*fakeGateway) Clients() control.Clients {
	return control.Clients{Clients: []control.ClientState{
		{ID: "alice", LastSeen: &control.Attempt{Source: clientAddr.Addr()}, LastDenied: &control.Attempt{Source: deniedAddr, Result: staleResult}},
	}}
}

func (*fakeGateway) Bans() control.Bans {
	return control.Bans{Bans: []control.Ban{{Source: netip.MustParsePrefix("10.9.0.0/16"), Left: 3}}}
}

func (*fakeGateway) Revoke(control.Revocation, string) (control.Revoked, error) {
	return control.Revoked{Flows: 1}, nil
}

func (*fakeGateway) Unban(netip.Prefix, string) int { return 1 }

func (*fakeGateway) Trace(_ context.Context, _ control.TraceOptions, each func(*control.TraceEvent) error) error {
	for _, e := range []control.TraceEvent{{Step: control.StepPacket, Source: "10.1.1.2:1"}, {Step: control.StepFlow, Dropped: 2}} {
		if err := each(&e); err != nil {
			return err
		}
	}
	return nil
}

func (*fakeGateway) Capture(_ context.Context, _ control.CaptureOptions, to io.Writer, flush func() error) error {
	w, err := capture.NewWriter(to, capture.WriterOptions{Interface: "knock0"})
	if err != nil {
		return err
	}
	packet := make([]byte, 61)
	for _, missed := range []uint64{0, 7} {
		r := capture.Record{Time: time.Unix(1, 0), Data: packet, Length: len(packet), Verdict: "drop", Reason: "no-grant", Dropped: missed}
		if err := w.Write(&r); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(2), flush())
}
