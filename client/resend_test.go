package client

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// knockWait is how long a gateway waits for the knock of an authentication,
// until shortly before its deadline.
const knockWait = auth.DefaultDeadline - 200*time.Millisecond

// addGrant adds a grant that another dial has left at the gateway.
func (n *fakeNet) addGrant() {
	n.grants = append(n.grants, &fakeGrant{session: "of another dial", dies: time.Now().Add(fakeTTL)})
}

func TestResendKnocksDuringAuthentication(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		lost   int           // the first datagrams
		took   time.Duration // in addition to the round trips
	}{
		"the first one":            {"", 1, resendInterval},
		"two":                      {protocol.MethodUDPPassive, 2, resendInterval * 5 / 2},
		"all but the last one":     {"", maxResends, resendInterval * 65 / 8},
		"a sequence":               {protocol.MethodUDPSeq, DefaultSequenceLength, 2*DefaultSequenceGap + resendInterval},
		"a passive sequence":       {protocol.MethodUDPPassiveSeq, DefaultSequenceLength, 2*DefaultSequenceGap + resendInterval},
		"none, on a path as usual": {"", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): gatedHost})
				n.knockWait, n.dropKnocks = knockWait, c.lost
				n.addGrant()
				d := n.dialer(t)
				d.Method = c.method
				began := time.Now()
				conn, err := d.DialContext(t.Context(), "tcp", second4.String())
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				if took := time.Since(began) - n.rtt*3/2; (took - c.took).Abs() > n.rtt {
					t.Errorf("took %v, want %v", took, c.took)
				}
				nonces := map[string]bool{}
				for _, k := range n.knocks {
					if nonces[k.nonce] || k.session != n.knocks[0].session {
						t.Error("a nonce was used twice, or another session")
					}
					nonces[k.nonce] = true
				}
				if c.lost == 0 && len(n.knocks) != 1 {
					t.Errorf("%d knocks where one was enough", len(n.knocks))
				}
				knocks := len(n.knocks)
				time.Sleep(handshakeTimeout)
				if len(n.knocks) != knocks || n.failed != 0 || len(n.dials) != 1 {
					t.Errorf("%d connections, %d failures, and %d knocks afterwards", len(n.dials), n.failed, len(n.knocks)-knocks)
				}
			})
		})
	}
}

func TestResendKnocksNotNeeded(t *testing.T) {
	for name, change := range map[string]func(*Dialer){
		"without a knock":  func(d *Dialer) { d.NoKnock = true },
		"without a proof":  func(d *Dialer) { d.Auth.Proof = false },
		"by a SYN":         func(d *Dialer) { d.Method = protocol.MethodTCPSYN },
		"by several SYNs":  func(d *Dialer) { d.Method = protocol.MethodTCPSYNSeq },
		"by no knock ever": func(d *Dialer) { d.Method = protocol.MethodTCPAuth },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): gatedHost})
				d := n.dialer(t)
				change(d)
				conn := &connFrom{local: &net.TCPAddr{Port: 1}}
				stop := d.resendKnocks(t.Context(), conn, second4, []byte(testSession16))
				time.Sleep(handshakeTimeout)
				stop()
				if len(n.knocks) != 0 {
					t.Errorf("%d knocks", len(n.knocks))
				}
			})
		})
	}
}

// connFrom is a connection with the given local address.
type connFrom struct {
	net.Conn
	local *net.TCPAddr
}

func (c *connFrom) LocalAddr() net.Addr { return c.local }

func TestResendKnocksBoundToConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &connFrom{local: &net.TCPAddr{IP: net.IPv4(10, 77, 0, 9), Port: 51234}}
		knocks := 0
		d := &Dialer{
			Identity: testIdentity(t), Auth: auth.Client{Proof: true},
			Method: protocol.MethodUDPv2, Gateway: testGateway, BindPort: true, BindSource: true,
		}
		d.Dial = func(_ context.Context, by *net.Dialer, network, address string) (net.Conn, error) {
			if local, ok := by.LocalAddr.(*net.UDPAddr); !ok || !local.IP.Equal(conn.local.IP) || local.Port != 0 {
				t.Errorf("a socket at %v", by.LocalAddr)
			}
			return &connRecorder{local: by.LocalAddr, sent: func(b []byte) {
				knocks++
				k, err := protocol.ParseKnockV2(b)
				if err != nil {
					t.Error(err)
					return
				}
				slot := protocol.Slot(time.Now(), DefaultSlot)
				m, err := k.Open(protocol.NewScratch(), d.Identity, testGateway, second4.Port(), slot)
				if err != nil || m.SourcePort != 51234 || m.Source != netip.MustParseAddr("10.77.0.9") || string(m.Session()) != testSession16 {
					t.Errorf("%+v, %v", m, err)
				}
			}}, nil
		}
		stop := d.resendKnocks(t.Context(), conn, second4, []byte(testSession16))
		time.Sleep(2 * handshakeTimeout)
		stop()
		if knocks != maxResends {
			t.Errorf("%d knocks", knocks)
		}
	})
}

// connRecorder is a socket that records what is written.
type connRecorder struct {
	net.Conn
	local net.Addr
	sent  func([]byte)
}

func (w *connRecorder) LocalAddr() net.Addr { return w.local }

func (w *connRecorder) Close() error { return nil }

func (w *connRecorder) Write(b []byte) (int, error) {
	w.sent(b)
	return len(b), nil
}

// TestDialConcurrentWithLoss dials repeatedly from one address: each connection
// may be admitted by the grants that the previous dials left.
func TestDialConcurrentWithLoss(t *testing.T) {
	const (
		times   = 1000
		turns   = 50 // dials through the same gateway
		limit   = 10 * time.Second
		allowed = times / 100 // failures
	)
	for name, wait := range map[string]time.Duration{"a gate that waits": knockWait, "a gate that does not": 0} {
		synctest.Test(t, func(t *testing.T) {
			var n *fakeNet
			var failed, again int
			var took []time.Duration
			for i := range times {
				if i%turns == 0 {
					n = newFakeNet(t, map[netip.Addr]hostKind{second4.Addr(): gatedHost})
					n.loss, n.random, n.knockWait = 0.2, newRand(i), wait
				}
				began := time.Now()
				d := n.dialer(t)
				authentications := 0
				d.Trace = &Trace{Authenticated: func(Attempt, error) { authentications++ }}
				conn, err := d.DialContext(t.Context(), "tcp", second4.String())
				took = append(took, time.Since(began))
				if err == nil {
					_ = conn.Close()
				}
				if authentications > 1 {
					again++
				}
				if err != nil || took[i] > limit {
					failed++
				}
			}
			slices.Sort(took)
			t.Logf("%s: of %d, %d failed and %d authenticated again; median %v, of ten nine %v, of a hundred 99 %v, the last %v",
				name, times, failed, again, took[times/2], took[times*9/10], took[times*99/100], took[times-1])
			if wait > 0 && failed > allowed {
				t.Errorf("%d of %d failed", failed, times)
			}
		})
	}
}
