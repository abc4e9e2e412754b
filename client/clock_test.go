package client

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

func TestTheOffsetOfTheClockIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		gate   time.Duration // the gate's clock, less ours
		limit  time.Duration // that finding it may take
		noAuth bool
		proof  bool
	}{
		"right":                             {0, 6 * time.Second, false, true},
		"a third of a second":               {300 * time.Millisecond, 6 * time.Second, false, true},
		"41 s behind":                       {41 * time.Second, 8 * time.Second, false, true},
		"41 s behind, without a proof":      {41 * time.Second, 8 * time.Second, false, false},
		"41 s behind, in mode knock":        {41 * time.Second, 8 * time.Second, true, false},
		"31 s ahead":                        {-31 * time.Second, 8 * time.Second, false, true},
		"five minutes ahead":                {-5 * time.Minute, 12 * time.Second, false, true},
		"the wrong time zone":               {2*time.Hour + 7*time.Second, 12 * time.Second, false, true},
		"the wrong end of the world":        {-12 * time.Hour, time.Minute, false, true},
		"almost an hour":                    {58*time.Minute + 13*time.Second, 2 * time.Minute, false, true},
		"more than the window, by a little": {31 * time.Second, 8 * time.Second, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t, map[netip.Addr]dweller{second4.Addr(): gate})
				n.clock, n.noAuth = c.gate, c.noAuth
				d := n.dialer(t)
				d.Auth.Proof = c.proof
				began := time.Now()
				got, err := d.ClockOffset(t.Context(), "tcp", second4.String())
				if err != nil {
					t.Fatal(err)
				}
				if off := got + c.gate; off.Abs() > time.Second {
					t.Errorf("got %v, which is %v off", got, off)
				}
				if took := time.Since(began); took > c.limit {
					t.Errorf("took %v and %d knocks", took, len(n.knocks))
				}
				synctest.Wait()
				if n.failed != 0 {
					t.Errorf("%d authentications failed", n.failed)
				}
				t.Logf("%v, %d knocks", time.Since(began), len(n.knocks))
			})
		})
	}
}

func TestAClockThatCannotBeFoundIsAnErrorThatSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		at     dweller
		method string
		noKnow bool
		want   error
		says   string
	}{
		"nobody there":            {at: nobody, want: ErrClockUnknown},
		"no route":                {at: far, says: "unreachable"},
		"open to everybody":       {at: mute, want: errors.ErrUnsupported, says: "whatever its stamp"},
		"a service without knock": {at: gate, noKnow: true, want: errors.ErrUnsupported},
		"SYNs":                    {at: gate, method: protocol.MethodTCPSYN, want: errors.ErrUnsupported, says: "udp"},
		"no method":               {at: gate, method: "knock-knock", want: ErrOption},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t, map[netip.Addr]dweller{second4.Addr(): c.at})
				n.noAuth = true
				d := n.dialer(t)
				d.Method, d.NoKnock = c.method, c.noKnow
				began := time.Now()
				_, err := d.ClockOffset(t.Context(), "tcp", second4.String())
				if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Error(err)
				}
				if took := time.Since(began); took > 2*time.Minute {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestTheOtherFamilyIsAskedForTheTimeToo(t *testing.T) {
	for name, first := range map[string]dweller{"dead": nobody, "without a route": far} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t, map[netip.Addr]dweller{first6.Addr(): first, second4.Addr(): gate})
				n.clock = 41 * time.Second
				got, err := n.dialer(t).newClockSearch([]netip.AddrPort{first6, second4, third6}).offset(t.Context())
				if err != nil || (got+n.clock).Abs() > time.Second {
					t.Errorf("%v, %v", got, err)
				}
			})
		})
	}
}

func TestAnAuthenticationThatFailsEndsTheSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t, map[netip.Addr]dweller{second4.Addr(): gate})
		n.clock, n.spoilt = 41*time.Second, 9
		offset, err := n.dialer(t).ClockOffset(t.Context(), "tcp", second4.String())
		if err == nil || (offset+n.clock).Abs() > fakeWindow || n.spoilt != 8 {
			t.Errorf("%v, %v after %d authentications", offset, err, 9-n.spoilt)
		}
	})
}

func TestADialThatNobodyAnswersTellsTheClock(t *testing.T) {
	for name, c := range map[string]struct {
		gate time.Duration
		says string
	}{
		"behind": {41 * time.Second, "this host's clock is 41 s behind the gateway's"},
		"ahead":  {-3 * time.Minute, "this host's clock is 3m0s ahead of the gateway's"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t, map[netip.Addr]dweller{second4.Addr(): gate})
				n.clock = c.gate
				d := n.dialer(t)
				d.FindClock = true
				began := time.Now()
				_, err := d.DialContext(t.Context(), "tcp", second4.String())
				if err == nil || !strings.Contains(err.Error(), c.says) || !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if took := time.Since(began); took > DefaultTimeout+suspectTime {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestAClockIsLookedForOnceInEachPlace(t *testing.T) {
	const window = 30 * time.Second
	shifts := clockShifts(57 * time.Second)
	seen := map[time.Duration]bool{}
	for _, s := range shifts {
		if seen[s] {
			t.Errorf("%v twice", s)
		}
		seen[s] = true
	}
	for off := -clockRange + window; off <= clockRange-window; off += time.Second {
		found := false
		for s := range seen {
			found = found || (s-off).Abs() <= window
		}
		if !found {
			t.Fatalf("%v is looked for nowhere", off)
		}
	}
	if !seen[14*time.Hour] || !seen[-12*time.Hour] || seen[15*time.Hour] {
		t.Error("the time zones are wrong")
	}
}

// lateContext is found to have ended when it has been asked often enough.
type lateContext struct {
	context.Context
	asked atomic.Int64
	after int64
}

func (c *lateContext) Err() error {
	if c.asked.Add(1) > c.after {
		return context.Canceled
	}
	return nil
}

func TestASearchThatIsEndedSaysWhyWhereverItWas(t *testing.T) {
	for after := range int64(12) {
		synctest.Test(t, func(t *testing.T) {
			n := newFakeNet(t, map[netip.Addr]dweller{second4.Addr(): gate})
			n.clock = 2 * clockRange
			d := n.dialer(t)
			search := d.newClockSearch([]netip.AddrPort{second4})
			_, err := search.first(&lateContext{Context: context.Background(), after: after})
			if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrClockUnknown) || strings.Contains(err.Error(), "%!") {
				t.Errorf("after %d looks: %v", after, err)
			}
		})
	}
}

// The gateway tells its operator of the last knock that was refused, and the search
// makes many with the stamps of other clocks.
func TestTheSearchEndsWithAKnockByTheClockAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		at    dweller
		clock time.Duration
		limit time.Duration // of the search; 0: none
	}{
		"behind":                  {gate, 77 * time.Second, 0},
		"ahead":                   {gate, -41 * time.Second, 0},
		"right":                   {gate, 0, 0},
		"not known":               {nobody, 0, 0},
		"not known in this time":  {nobody, 0, 3 * time.Second},
		"not known to the second": {gate, 41 * time.Second, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeNet(t, map[netip.Addr]dweller{second4.Addr(): c.at})
				n.clock = c.clock
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if c.limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.limit)
				}
				defer cancel()
				_, err := n.dialer(t).ClockOffset(ctx, "tcp", second4.String())
				synctest.Wait()
				if last := n.knocks[len(n.knocks)-1]; (last.skew + c.clock).Abs() > time.Second {
					t.Errorf("the last of %d knocks is %v ahead of the gate, and the clock %v: %v", len(n.knocks), last.skew, -c.clock, err)
				}
			})
		})
	}
}
