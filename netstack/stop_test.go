package netstack_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/packettest"
	"github.com/knockgw/knockgw/internal/tuntest"
	"github.com/knockgw/knockgw/netstack"
	"github.com/knockgw/knockgw/packet"
)

// ended waits for Run and returns its error.
func (th *harness) ended() (err error) {
	th.Helper()
	th.once.Do(func() {
		select {
		case err = <-th.done:
		case <-time.After(timeout):
			th.Fatal("Run does not return")
		}
	})
	return err
}

func TestRunWaitsForHandlers(t *testing.T) {
	// Handlers in every state: waiting for the handshake, reading, and writing
	// to a client that does not read.
	for name, c := range map[string]struct {
		end  func(th *harness)
		fail bool
	}{
		"the context ends": {func(th *harness) { th.stop() }, false},
		"the device fails": {func(th *harness) { th.wire.Close() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			var running atomic.Int64
			accepted := make(chan struct{}, 2)
			th := newHarness(t, true, func(th *harness) {
				th.handle = func(r *netstack.Request) {
					running.Add(1)
					defer running.Add(-1)
					c, err := r.Accept()
					if err != nil {
						return
					}
					accepted <- struct{}{}
					defer c.Close()
					if r.Tuple.DstPort == openPort {
						_, err = c.Read(make([]byte, 1))
					}
					for err == nil {
						_, err = c.Write(make([]byte, 256<<10))
					}
				}
			})
			to := netip.AddrPortFrom(target4, hiddenPort)
			th.raw(1001, netip.AddrPortFrom(target4, openPort)).open()
			th.raw(1002, to).open()
			th.raw(1000, to).send(packet.SYN, nil)
			<-accepted
			<-accepted
			for running.Load() < 3 {
				time.Sleep(time.Millisecond)
			}
			begin := time.Now()
			c.end(th)
			if err := th.ended(); (err != nil) != c.fail || c.fail && !errors.Is(err, os.ErrClosed) {
				t.Errorf("Run: %v", err)
			}
			if running.Load() != 0 {
				t.Errorf("%d handlers are still running", running.Load())
			}
			if d := time.Since(begin); d > time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

func TestRunResetsClients(t *testing.T) {
	th := newHarness(t, true)
	to := netip.AddrPortFrom(target4, hiddenPort)
	client := th.raw(1000, to).open()
	th.accepted()
	th.stop()
	_ = th.ended()
	client.expect(packet.RST | packet.ACK)
}

func TestRunWithoutPackets(t *testing.T) {
	device, _ := tuntest.Pair(testMTU, true)
	s, err := netstack.New(netstack.Options{
		Device: device,
		Admit:  func(*packet.Packet) netstack.Decision { return netstack.Decision{} },
		Egress: func(*packet.Packet, int) bool { return false },
		Handle: func(*netstack.Request) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestInjectDuringShutdown(t *testing.T) {
	for range 20 {
		var running, late atomic.Int64
		var over atomic.Bool
		th := newHarness(t, true, func(th *harness) {
			th.handle = func(r *netstack.Request) {
				running.Add(1)
				defer running.Add(-1)
				if over.Load() {
					late.Add(1)
				}
				if r.Tuple.SrcPort%3 == 0 {
					_, _ = r.Accept()
				}
			}
		})
		stop := make(chan struct{})
		var injectors sync.WaitGroup
		for i := range 4 {
			injectors.Go(func() {
				for n := uint16(i * 10_000); ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					port := uint16(hiddenPort)
					if n%2 == 0 {
						port = openPort
					}
					if n%16 == 0 {
						time.Sleep(50 * time.Microsecond) // let the others run
					}
					b := packettest.SYN(netip.AddrPortFrom(client4, 1024+n%60_000), netip.AddrPortFrom(target4, port), 1)
					th.inject(b, netstack.Decision{Pass: true, Open: n%2 == 0, TupleReused: n%5 == 0})
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		th.stop()
		if err := th.ended(); err != nil {
			t.Error(err)
		}
		over.Store(true)
		if n := running.Load(); n != 0 {
			t.Errorf("%d handlers run after Run has returned", n)
		}
		time.Sleep(time.Millisecond)
		close(stop)
		injectors.Wait()
		if n := late.Load(); n != 0 {
			t.Errorf("%d requests began after Run had returned", n)
		}
	}
}
