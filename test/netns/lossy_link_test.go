//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/internal/testtool"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	lossShare = 0.2 // of the packets, each way
	lossDelay = 10 * time.Millisecond
	// lossRate and lossQueue let everything through that is not lost.
	lossRate  = 1e9
	lossQueue = time.Second
	lossSeed  = 1
	// lossSeedVariable is another seed, to see that the usual one is no luck.
	lossSeedVariable = "KNOCKGW_LOSS_SEED"

	lossTries  = 100
	lossEnough = 98
	lossAtOnce = 10
	// lossLimit is how long a try may take: to connect, and as it is measured,
	// to have an answer besides.
	lossLimit = 10 * time.Second

	farDevice, nearDevice = "far0", "near0"
)

var (
	lossClient  = netip.MustParsePrefix("10.1.9.2/24")
	lossGateway = netip.MustParsePrefix("10.1.9.1/24")
)

// lossy puts a wire that loses packets between the client and the gateway, for
// all that they have for each other:
//
//	client --far0-- wire: 10 ms, 20 % lost, each way --near0-- gateway -- upstream
//
// The returned function takes it away and returns what became of the packets.
func lossy(t *testing.T, l *lab.Lab, seed uint64) func() [2]lab.Carried {
	t.Helper()
	devices := [2]*os.File{l.Client.Device(farDevice, lossClient), l.Gateway.Device(nearDevice, lossGateway)}
	l.Client.Route(lab.Protected4, farDevice, "")
	// What the kernel has learnt from one connection it would use in the next.
	l.Client.Sysctl("ipv4/tcp_no_metrics_save", "1")
	ctx, cancel := context.WithCancel(t.Context())
	wire := lab.Wire{Delay: lossDelay, Loss: lossShare, Seed: seed, Rate: lossRate, Queue: lossQueue}
	var (
		carried [2]lab.Carried
		err     error
		all     sync.WaitGroup
	)
	all.Go(func() { carried, err = wire.Carry(ctx, devices) })
	end := func() [2]lab.Carried {
		cancel()
		all.Wait()
		return carried
	}
	t.Cleanup(func() {
		end()
		if err != nil {
			t.Error(err)
		}
	})
	return end
}

func TestConnectOverLossyLink(t *testing.T) {
	testtool.RequireLong(t, "measures a link with losses")
	seed := uint64(lossSeed)
	if text := os.Getenv(lossSeedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s is no number: %v", lossSeedVariable, err)
		}
	}
	// What a dial leaves behind must not disturb the next one: grants of knocks
	// that it did not need admitted a connection whose own knock was lost.
	t.Run("from one address", func(t *testing.T) { lossyTries(t, seed, 1) })
	t.Run("from ten addresses in rotation", func(t *testing.T) { lossyTries(t, seed, lossAtOnce) })
}

// lossyTries makes all tries, some at a time, from so many addresses in
// rotation, and wants enough of them to get through.
func lossyTries(t *testing.T, seed uint64, addresses int) {
	t.Helper()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	h := hide(t, l, protocol.MethodUDP, endpoint{name: "lines", listen: netip.MustParseAddrPort("10.77.0.1:7000"), upstream: s.Addr})
	end := lossy(t, l, seed)
	var (
		mu       sync.Mutex
		times    []time.Duration
		failures []string
		all      errgroup.Group
		people   = make(chan attacker, lossAtOnce)
	)
	for n := range lossAtOnce {
		if n < addresses {
			people <- h.attacker(t, n)
			continue
		}
		again := <-people
		people <- again
		people <- again
	}
	all.SetLimit(lossAtOnce)
	for range lossTries {
		who := <-people
		all.Go(func() error {
			took, err := h.tryConnect(t, who, s.Greeting)
			people <- who
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, fmt.Sprintf("after %v: %v", took.Round(time.Millisecond), err))
			} else {
				times = append(times, took)
			}
			return nil
		})
	}
	_ = all.Wait()
	carried := end()
	for i, way := range []string{"to the gateway", "to the client"} {
		c := carried[i]
		t.Logf("%s: %d packets, %d lost, %d of them for want of room", way, c.Packets, c.Lost+c.Overflowed, c.Overflowed)
		if c.Lost < c.Packets/10 {
			t.Errorf("%s: hardly anything was lost", way)
		}
	}
	slices.Sort(times)
	t.Logf("seed %d: %d of %d tries got through within %v; p50 %v, p99 %v", seed, len(times), lossTries, lossLimit,
		quantile(times, 0.5), quantile(times, 0.99))
	for _, f := range failures {
		t.Log(f)
	}
	if len(times) < lossEnough {
		t.Errorf("%d of %d tries got through within %v, want %d", len(times), lossTries, lossLimit, lossEnough)
	}
}

// An attacker to the others, who tries at the same time: with a user and an
// address of their own, as people are who have nothing to do with one another.
type attacker struct {
	uid uint32
	dir string // of profiles
}

// firstUID is the user of the first of them; no other process has it.
const firstUID = 70001

// attacker makes number n of them.
func (h *hiddenService) attacker(t *testing.T, n int) attacker {
	t.Helper()
	who := attacker{uid: uint32(firstUID + n)}
	dir, err := os.MkdirTemp("", "knockgw-person-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path, err := profile.Directory(dir).Save(h.profile, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, mine := range []string{dir, path} {
		if err := os.Chown(mine, int(who.uid), unprivilegedID); err != nil {
			t.Fatal(err)
		}
	}
	who.dir = dir
	uid, addr := strconv.Itoa(int(who.uid)), lossClient.Addr().Next()
	for range n {
		addr = addr.Next()
	}
	h.Client.MustRun("ip", "addr", "add", addr.String()+"/32", "dev", farDevice)
	h.Client.MustRun("ip", "rule", "add", "uidrange", uid+"-"+uid, "lookup", uid)
	h.Client.MustRun("ip", "route", "add", lab.Protected4.String(), "dev", farDevice, "src", addr.String(), "table", uid)
	return who
}

// tryConnect runs "knockgw connect", and returns how long it took until the
// upstream's answer was there.
func (h *hiddenService) tryConnect(t *testing.T, who attacker, greeting string) (time.Duration, error) {
	cmd := h.Client.Command(context.Background(), program.get(t).Path, "connect", "lines")
	cmd.Env = append(os.Environ(), profile.DirectoryVariable+"="+who.dir)
	cmd.Dir = "/"
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: who.uid, Gid: unprivilegedID}
	cmd.Stdin = strings.NewReader("hello\n")
	ctx, cancel := context.WithTimeout(t.Context(), lossLimit)
	defer cancel()
	began := time.Now()
	p := h.Client.StartCommand(t, cmd)
	// Where it takes more than 3 s, the command says before what it waits for.
	err := p.WaitLog(ctx, func(log string) bool { return strings.HasSuffix("\n"+log, "\n"+greeting+"\n") })
	took := time.Since(began)
	p.Kill()
	if err != nil {
		return took, fmt.Errorf("%w: it has said %q", err, p.Log())
	}
	return took, nil
}
