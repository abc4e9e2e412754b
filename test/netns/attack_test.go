//go:build linux

package netns_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/internal/netlab"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// What an attacker that is not on the path can do, tried from outside: he sends
// any packets with any source address, and does not see what the gateway
// answers to others. The client is a round trip of 60 ms away, which leaves him
// time:
//
//	client --far4, far6-- wire, 30 ms each way --near4, near6-- gateway -- upstream
//	                                      attacker (attacker) ----'
const (
	attackDelay = 30 * time.Millisecond // of each direction
	attackRate  = 30e6                  // bits a second
	attackQueue = time.Second
	// attackSeed makes the attacker's choices the same in each run.
	attackSeed = 7

	// attackSlack is how much longer the median of admissions may take under
	// attack: less than it takes until a client knocks again. On a machine that
	// does nothing else it is some milliseconds, which is logged.
	attackSlack = 450 * time.Millisecond
	// attackAnswer is how long the upstream may take to answer a client that is
	// in.
	attackAnswer = 3 * time.Second
)

// The addresses of a client behind the wire.
var (
	farAddr4 = netip.MustParseAddr("10.1.9.2")
	farAddr6 = netip.MustParseAddr("fd01:9::2")
)

// withEachFilter runs a test with the kernel's filter and without it, both at
// the same time: they mostly wait.
func withEachFilter(t *testing.T, test func(t *testing.T, l *lab.Lab)) {
	for _, filter := range []string{"auto", "off"} {
		t.Run("filter "+filter, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			l.TUN = "  filter: " + filter + "\n"
			l.AnySource()
			test(t, l)
		})
	}
}

// distant puts a wire between the client and the gateway, in both families,
// until the test or the returned function ends it. seen, if it is not nil, is
// given every packet: direction 0 is the client's.
func distant(t *testing.T, l *lab.Lab, seen func(direction int, packet []byte)) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, w := range []struct{ family, client, gateway string }{
		{"4", farAddr4.String() + "/24", "10.1.9.1/24"}, {"6", farAddr6.String() + "/64", "fd01:9::1/64"},
	} {
		devices := [2]*os.File{
			l.Client.Device("far"+w.family, netip.MustParsePrefix(w.client)),
			l.Gateway.Device("near"+w.family, netip.MustParsePrefix(w.gateway)),
		}
		wire := lab.Wire{Delay: attackDelay, Rate: attackRate, Queue: attackQueue, Seen: seen}
		all.Go(func() {
			if _, err := wire.Carry(ctx, devices); err != nil {
				t.Error(err)
			}
		})
	}
	l.Client.Route(lab.Protected4, "far4", "")
	l.Client.Route(lab.Protected6, "far6", "")
	end = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	t.Cleanup(end)
	return end
}

// farAddr is the client's address behind the wire, of the family of other.
func farAddr(other netip.Addr) netip.Addr {
	if other.Is4() {
		return farAddr4
	}
	return farAddr6
}

// A recorder is an upstream that answers the line "hello" and records all input.
type recorder struct {
	*netlab.Server

	addr, greeting string

	mu    sync.Mutex
	heard []string // one for each connection with any input
}

// recordUpstream starts a recorder on the upstream.
func recordUpstream(t *testing.T, l *lab.Lab) *recorder {
	t.Helper()
	r := &recorder{greeting: "hello from " + l.Upstream.Name}
	r.Server, r.addr = l.Upstream.Serve(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String(), r.serve)
	return r
}

func (r *recorder) serve(conn net.Conn) {
	var said []byte
	b := make([]byte, 64<<10)
	at := -1 // in heard
	for {
		n, err := conn.Read(b)
		if n > 0 {
			said = append(said, b[:n]...)
			r.mu.Lock()
			if at < 0 {
				at = len(r.heard)
				r.heard = append(r.heard, "")
			}
			r.heard[at] = string(said)
			r.mu.Unlock()
			if string(said) == "hello\n" {
				_, _ = fmt.Fprintln(conn, r.greeting)
			}
		}
		if err != nil {
			return
		}
	}
}

// connections is how many there were, and words what they have said.
func (r *recorder) connections() (n int, words []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Accepted(), slices.Clone(r.heard)
}

// onlyClients fails the test if anything but a client's line reached the
// upstream.
func (r *recorder) onlyClients(t *testing.T) {
	t.Helper()
	_, words := r.connections()
	forged := 0
	for _, w := range words {
		if w != "hello\n" {
			if forged++; forged <= 3 {
				t.Errorf("the upstream heard %q", w[:min(len(w), 80)])
			}
		}
	}
	if forged > 3 {
		t.Errorf("the upstream heard %d of that sort in all", forged)
	}
}

// attackedDialer is a real client's, on the client's host.
func attackedDialer(t *testing.T, l *lab.Lab, d endpoint, method string) *client.Dialer {
	t.Helper()
	id, err := protocol.NewClient("alice", []byte(aliceSecret))
	if err != nil {
		t.Fatal(err)
	}
	return &client.Dialer{
		Identity: id, Method: method, KnockPort: knockPort, Gateway: gatewayName, Timeout: admitTime,
		NoKnock: !d.knocks(), NoAuth: !d.authenticates(), Auth: auth.Client{Proof: true},
		Dial: l.Client.DialBy,
	}
}

// dialerFrom is a dialer from another of the host's addresses.
func dialerFrom(d *client.Dialer, from netip.Addr) *client.Dialer {
	other := *d
	other.Net.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	return &other
}

// admit dials an endpoint, asks its upstream and returns how long it took.
func admit(ctx context.Context, dialer *client.Dialer, d endpoint, greeting string) (time.Duration, error) {
	began := time.Now()
	conn, err := dialer.DialContext(ctx, "tcp", d.listen.String())
	if err != nil {
		return 0, err
	}
	err = conn.SetDeadline(time.Now().Add(attackAnswer))
	if err == nil {
		_, err = fmt.Fprintln(conn, "hello")
	}
	answer := make([]byte, len(greeting))
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	took := time.Since(began)
	if err == nil && string(answer) != greeting {
		err = fmt.Errorf("%s answered %q", d.name, answer)
	}
	return took, errors.Join(err, conn.Close())
}

// medianAdmission fails the test unless a client is admitted every time, and
// returns the median time to an answer.
func medianAdmission(t *testing.T, dialer *client.Dialer, d endpoint, greeting string, times int) time.Duration {
	t.Helper()
	var all []time.Duration
	for i := range times {
		took, err := admit(t.Context(), dialer, d, greeting)
		if err != nil {
			t.Errorf("%s, visit %d of %d: %v", d.name, i+1, times, err)
			continue
		}
		all = append(all, took)
	}
	if len(all) == 0 {
		t.Fatalf("%s let no client in", d.name)
	}
	slices.Sort(all)
	return quantile(all, 0.5)
}

// during floods from the attacker while do runs, and returns how many packets
// were sent.
func during(t *testing.T, l *lab.Lab, to netip.Addr, next func(b []byte) int, rate int, do func()) (sent int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var flooding sync.WaitGroup
	flooding.Go(func() {
		var err error
		if sent, err = l.Attacker.FloodWith(ctx, to, next, rate); err != nil {
			t.Error(err)
		}
	})
	func() {
		defer flooding.Wait()
		defer stop()
		do()
	}()
	return sent
}

// seeded is the attacker's choices.
func seeded() *rand.Rand {
	return rand.New(rand.NewPCG(attackSeed, attackSeed))
}

// anySource is a forged address of the networks set apart for measurements.
func anySource(r *rand.Rand, family netip.Addr) netip.Addr {
	if family.Is4() {
		a := [4]byte{198, 18}
		binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])|r.Uint32()&0x1ffff)
		return netip.AddrFrom4(a)
	}
	a := [16]byte{0x20, 0x01, 0x00, 0x02} // RFC 5180
	binary.BigEndian.PutUint64(a[6:], r.Uint64())
	return netip.AddrFrom16(a)
}

// hiddenAt is a hidden endpoint of a mode and methods at an address.
func hiddenAt(addr, mode, upstream string, methods ...string) endpoint {
	listen := netip.MustParseAddrPort(addr)
	name := strings.NewReplacer(".", "-", ":", "-", "[", "", "]", "").Replace(mode + "-" + addr)
	return endpoint{name: name, mode: mode, listen: listen, upstream: upstream, methods: methods}
}

// attackText is a configuration with these endpoints and the name of the
// gateway.
func attackText(more string, all ...endpoint) string {
	return more + strings.Replace(configuration(all...), "knock: {", "knock: {gateway: "+gatewayName+", ", 1)
}
