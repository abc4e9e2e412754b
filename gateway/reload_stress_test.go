package gateway_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/gateway"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/tuntest"
	"github.com/knockgw/knockgw/packet"
)

const (
	manyReloads  = 1000
	firstReloads = 100
	// mayGrow is the maximum ratio of resources after the last reload to those
	// after the first ones.
	mayGrow = 1.10
)

// resources returns the objects on the heap and the goroutines of the process.
func resources() (objects uint64, goroutines int) {
	var m runtime.MemStats
	for range 3 { // what pools keep goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapObjects, runtime.NumGoroutine()
}

func TestReloadThousandTimes(t *testing.T) {
	up := caller(t, "up")
	h := newHarness(t, true, allModes(up))
	var sessions []*session
	for port := uint16(modeAuth); port <= modeVisible; port++ {
		for _, home := range clientAddrs[:2] {
			sessions = append(sessions, h.open(alice, home, port))
		}
	}
	base := aliceAndBob + "services:\n" + allModes(up)
	texts := []string{
		base + at("new", 5, asVisible, up),
		strings.Replace(base, "bob, whose", "bob, whose new", 1) + at("other", 6, asKnockAuth, up),
		strings.Replace(base, "clients:\n", "clients:\n  - {id: carol, secret: carol whose secret is long}\n", 1) + "knock: {window: 40s, slot: 40s}\n",
		base,
	}
	// Sessions exchange data, and an attacker probes.
	var traffic sync.WaitGroup
	var paused sync.RWMutex
	var asked atomic.Int64
	ctx, stop := context.WithCancel(context.Background())
	for _, s := range sessions {
		traffic.Go(func() {
			for ctx.Err() == nil {
				paused.RLock()
				s.assertAlive()
				asked.Add(1)
				paused.RUnlock()
			}
		})
	}
	attacker := netip.MustParseAddr("198.51.100.7")
	traffic.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			paused.RLock()
			for _, port := range []uint16{modeKnock, modeKnockAuth, 6, 7} {
				b := packettest.TCP{Src: netip.AddrPortFrom(attacker, uint16(1024+i%60000)), Dst: target(attacker, port), Flags: uint8(i % 64), Seq: 1, Ack: 2}
				_ = h.wire.Write(packet.Offload{}, [][]byte{b.Packet()})
			}
			paused.RUnlock()
			time.Sleep(time.Millisecond)
		}
	})
	var objects uint64
	var goroutines int
	for i := 1; i <= manyReloads; i++ {
		h.reload(texts[i%len(texts)])
		if i != firstReloads && i != manyReloads {
			continue
		}
		paused.Lock()
		n, g := resources()
		paused.Unlock()
		if i == firstReloads {
			objects, goroutines = n, g
			continue
		}
		t.Logf("after %d and %d reloads: %d and %d objects, %d and %d goroutines; %d questions answered",
			firstReloads, i, objects, n, goroutines, g, asked.Load())
		if float64(n) > mayGrow*float64(objects) || float64(g) > mayGrow*float64(goroutines) {
			t.Errorf("%d objects and %d goroutines have become %d and %d", objects, goroutines, n, g)
		}
	}
	stop()
	traffic.Wait()
	for _, s := range append(sessions, h.open(alice, clientAddrs[0], modeKnockAuth)) {
		s.assertAlive()
	}
	if n := h.received(attacker); n != 0 {
		t.Errorf("an attacker received %d packets", n)
	}
}

func TestReloadSerializesWithStop(t *testing.T) {
	up := caller(t, "up")
	h := newHarness(t, true, allModes(up))
	base := aliceAndBob + "services:\n" + allModes(up)
	cfgs := []*config.Config{parseConfig(t, base), parseConfig(t, base+at("new", 5, asVisible, up)), parseConfig(t, base+at("new", 6, asAuth, up))}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := n; ; i++ {
				if _, err := h.gw.Reload(cfgs[i%len(cfgs)]); err != nil {
					if !errors.Is(err, gateway.ErrNotRunning) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	time.Sleep(quietPeriod)
	h.stop()
	wg.Wait()
}

// socketPath returns a path that is short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "knockgw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "control.sock")
}

func TestControlReloadReportsChanges(t *testing.T) {
	up := caller(t, "up")
	socket := socketPath(t)
	head := "control: {socket: " + socket + "}\n" + aliceAndBob + "services:\n" + allModes(up)
	var next atomic.Pointer[string]
	next.Store(&head)
	h := newHarness(t, true, allModes(up)+"control: {socket: "+socket+"}\n", func(o *gateway.Options) {
		o.Source = "lab.yaml"
		o.Load = func() (*config.Config, error) {
			return config.Parse("lab.yaml", []byte("version: 1\ntun: {routes: [10.77.0.0/24, \"fd77::/64\"]}\n"+*next.Load()))
		}
	})
	s := h.open(bob, clientAddrs[1], modeKnock)
	c := &control.Client{Socket: socket}
	status, err := c.Status(t.Context())
	if err != nil || !status.Ready || status.Services != 4 || status.Clients != 2 || status.Flows != 1 || status.Config != "lab.yaml" {
		t.Errorf("%+v, %v", status, err)
	}
	r, err := c.Check(t.Context())
	if err != nil || !r.Changes.Empty() || r.Applied {
		t.Errorf("%+v, %v", r, err)
	}
	bad := head + "no_such_key: 1\n"
	next.Store(&bad)
	var refused *control.RefusedError
	if _, err = c.Reload(t.Context()); !errors.As(err, &refused) || !strings.Contains(err.Error(), "no_such_key") || !strings.Contains(err.Error(), "lab.yaml:") {
		t.Errorf("%v", err)
	}
	if status, err = c.Status(t.Context()); err != nil || !status.ReloadFailed {
		t.Errorf("%+v, %v", status, err)
	}
	s.assertAlive()
	good := strings.Replace(head, "bob, whose", "bob, whose new", 1) + "metrics: {listen: 127.0.0.1:1}\n"
	next.Store(&good)
	r, err = c.Reload(t.Context())
	if err != nil || !r.Applied || r.Flows != 1 || len(r.Changes.Clients.Changed) != 1 || len(r.Changes.PendingRestart) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	h.assertReset(s, clientAddrs[1])
	if status, err = c.Status(t.Context()); err != nil || status.ReloadFailed || status.Reloaded.IsZero() || len(status.PendingRestart) != 1 || status.Flows != 0 {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestGatewayFailsIfControlSocketInUse(t *testing.T) {
	up := caller(t, "up")
	socket := socketPath(t)
	text := allModes(up) + "control: {socket: " + socket + "}\n"
	newHarness(t, true, text)
	device, wire := tuntest.Pair(testMTU, true)
	gw, err := gateway.New(parseConfig(t, aliceAndBob+"services:\n"+text), gateway.Options{Device: device})
	if err != nil {
		t.Fatal(err)
	}
	if err := gw.Run(t.Context()); !errors.Is(err, control.ErrInUse) {
		t.Errorf("%v", err)
	}
	_ = wire.Close()
	_ = device.Close()
	if _, err := (&control.Client{Socket: socket}).Status(t.Context()); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	}
}
