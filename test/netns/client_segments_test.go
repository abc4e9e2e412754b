//go:build linux

package netns_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	honestBytes = 2 << 20 // of each connection, each way
	honestTime  = 2 * time.Minute
	honestIdle  = 3 * time.Second // for the last ACKs, and what was late
)

// The gate drops segments by their numbers. Of a client's it must drop none,
// though the way there loses some, and brings others late and in another order.
// (A segment that a window overtakes would be one, but is not this late.)
func TestGateDropsNoSegmentOfAClient(t *testing.T) {
	testtool.RequireLong(t, "sends for 20 s")
	l := lab.New(t)
	upstream := l.Upstream.Listen("tcp", netip.AddrPortFrom(l.Upstream.Addr4, 7007).String())
	var served sync.WaitGroup
	served.Go(func() { echoAll(upstream, &served) })
	t.Cleanup(func() {
		_ = upstream.Close()
		served.Wait()
	})
	all := endpoints(upstream.Addr().String())[:4] // of IPv4
	gateway := l.NewSite(t, program.get(t), configuration(all...)).Start(t)

	devices := [2]*os.File{l.Client.Device(farDevice, lossClient), l.Gateway.Device(nearDevice, lossGateway)}
	l.Client.Route(lab.Protected4, farDevice, "")
	ctx, cancel := context.WithCancel(t.Context())
	wire := lab.Wire{Delay: 10 * time.Millisecond, Loss: 0.005, Late: 0.05, LateBy: 5 * time.Millisecond, Seed: 1, Rate: 200e6, Queue: time.Second}
	var wired sync.WaitGroup
	wired.Go(func() {
		if carried, err := wire.Carry(ctx, devices); err != nil {
			t.Error(err)
		} else {
			t.Logf("%+v", carried)
		}
	})
	t.Cleanup(func() {
		cancel()
		wired.Wait()
	})

	var visits errgroup.Group
	for _, d := range all {
		visits.Go(func() error { return echoThrough(ctx, d, alice(l.Client)) })
	}
	if err := visits.Wait(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(honestIdle)
	counted := false
	for name, n := range gateway.Metrics() {
		if !strings.Contains(name, `reason="out-of-window"`) {
			continue
		}
		if counted = true; n != 0 {
			t.Errorf("%v segments of clients were dropped: %s", n, name)
		}
	}
	if !counted {
		t.Error("there is no count of what the gate drops by its numbers")
	}
}

// echoAll sends back what comes by each connection.
func echoAll(l net.Listener, all *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer func() { _ = conn.Close() }()
			_, _ = io.Copy(conn, conn) // its end is seen at the other
		})
	}
}

// echoThrough sends and receives at the same time, and ends in good order.
func echoThrough(ctx context.Context, d endpoint, who lab.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, honestTime)
	defer cancel()
	conn, err := d.enter(ctx, who)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(honestTime)); err != nil {
		return err
	}
	want := make([]byte, honestBytes)
	_, _ = rand.Read(want)
	var sending errgroup.Group
	sending.Go(func() error {
		if _, err := conn.Write(want); err != nil {
			return err
		}
		return conn.(interface{ CloseWrite() error }).CloseWrite()
	})
	got, err := io.ReadAll(conn)
	if err := errors.Join(err, sending.Wait()); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New(d.name + ": the echo differs")
	}
	return nil
}
