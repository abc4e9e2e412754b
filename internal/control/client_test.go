package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/config"
)

func TestClientRequests(t *testing.T) {
	want := &Result{
		Config: "f.yaml", Applied: true, Warnings: []string{"w"}, Flows: 2,
		Changes: config.Changes{
			Services: config.Difference{Added: []string{}, Removed: []string{}, Changed: []config.Changed{}},
			Clients:  config.Difference{Added: []string{"bob"}, Removed: []string{}, Changed: []config.Changed{{Name: "alice", Keys: []string{"secret"}}}},
			Keys:     []string{}, PendingRestart: []string{},
		},
	}
	g := &fakeGateway{result: want}
	c := serve(t, g)
	for name, ask := range map[string]func(context.Context) (*Result, error){"reload": c.Reload, "check": c.Check} {
		g.calls = nil
		got, err := ask(t.Context())
		if err != nil || !reflect.DeepEqual(got, want) || len(g.calls) != 1 || g.calls[0] != name {
			t.Errorf("%s: %+v, %v; the gateway was asked %q", name, got, err, g.calls)
		}
		if want := fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid()); runtime.GOOS == "linux" && name == "reload" && !strings.Contains(g.operator, want) {
			t.Errorf("the gateway was told that %q asked, and it was %s", g.operator, want)
		}
	}
	s, err := c.Status(t.Context())
	if err != nil || s.PID != 7 || s.Services != 3 || len(s.PendingRestart) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestClientRevokeAndUnban(t *testing.T) {
	g := &fakeGateway{}
	c := serve(t, g)
	if r, err := c.Revoke(t.Context(), Revocation{Client: "alice", Source: netip.MustParsePrefix("10.0.0.0/8")}); err != nil || r.Grants != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Unban(t.Context(), netip.MustParsePrefix("fd00::/8")); err != nil || r.Bans != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if len(g.calls) != 2 || !strings.HasPrefix(g.calls[0], "revoke alice10.0.0.0/8 by ") || g.calls[1] != "unban fd00::/8" {
		t.Errorf("%q", g.calls)
	}
	for _, r := range []Revocation{
		{}, {All: true, Client: "alice"}, {Grants: true, Flow: netip.MustParseAddrPort("10.1.1.1:1")},
	} {
		if _, err := c.Revoke(t.Context(), r); err == nil {
			t.Errorf("%+v was not refused", r)
		}
	}
}

func TestTraceEndsWithItsReader(t *testing.T) {
	c := serve(t, &fakeGateway{})
	var got []TraceEvent
	enough := errors.New("enough")
	err := c.Trace(t.Context(), TraceOptions{From: netip.MustParsePrefix("10.1.0.0/16"), Service: "ssh"}, func(e *TraceEvent) error {
		got = append(got, *e)
		return enough
	})
	if !errors.Is(err, enough) || len(got) != 1 || got[0].Source != "10.1.0.0/16" || got[0].Reason != "ssh" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCaptureCopiesStream(t *testing.T) {
	c := serve(t, &fakeGateway{})
	var b strings.Builder
	begun := false
	err := c.Capture(t.Context(), CaptureOptions{Filter: "host 10.1.1.1 and verdict drop", Snaplen: 99}, &b, func() { begun = true })
	if err != nil || !begun || b.String() != "host 10.1.1.1 and verdict drop 99" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestCaptureInterruptedIsComplete(t *testing.T) {
	c := serve(t, &fakeGateway{})
	var b strings.Builder
	ctx, interrupt := context.WithCancel(t.Context())
	err := c.Capture(ctx, CaptureOptions{Snaplen: 99}, &b, interrupt)
	if err != nil || b.String() != " 99 packets in all" {
		t.Errorf("%q, %v", b.String(), err)
	}
	b.Reset()
	if err := c.Capture(ctx, CaptureOptions{Snaplen: 99}, &b, func() {}); !errors.Is(err, context.Canceled) || b.Len() > 0 {
		t.Errorf("interrupted before: %q, %v", b.String(), err)
	}
}

func TestRefusedErrorHasAllProblems(t *testing.T) {
	g := &fakeGateway{err: errors.Join(errors.New("f.yaml:3: one"), errors.New("f.yaml:9: two"))}
	_, err := serve(t, g).Reload(t.Context())
	var refused *RefusedError
	if !errors.As(err, &refused) || err.Error() != "f.yaml:3: one\nf.yaml:9: two" {
		t.Errorf("%v", err)
	}
}

func TestErrUnavailableWhileStarting(t *testing.T) {
	_, err := serve(t, &fakeGateway{err: ErrUnavailable}).Reload(t.Context())
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestClientEscapesText(t *testing.T) {
	g := &hostile{fakeGateway{err: errors.New("f.yaml:3: " + escape)}}
	c := serve(t, g)
	flows, err := c.Flows(t.Context(), 0)
	if err != nil || flows.Remaining != 1<<40 || flows.Flows[0].Sent != 1<<64-1 {
		t.Fatalf("%+v, %v", flows, err)
	}
	var traced TraceEvent
	if err := c.Trace(t.Context(), TraceOptions{From: netip.MustParsePrefix("10.0.0.0/8")}, func(e *TraceEvent) error {
		traced = *e
		return nil
	}); err != nil || traced.Detail != "a <b> & c" {
		t.Fatalf("%+v, %v", traced, err)
	}
	_, refused := c.Reload(t.Context())
	for _, text := range []string{flows.Flows[0].Client, flows.Flows[0].Service, flows.Flows[0].Source.String(), traced.Message, refused.Error()} {
		if strings.ContainsAny(text, "\x1b\u009b") || !strings.Contains(text, `\x1b[`) {
			t.Errorf("%q", text)
		}
	}
}
