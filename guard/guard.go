package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/packet"
)

// A Guard takes knocks and guards listeners. It is safe for concurrent use.
type Guard struct {
	o        Options
	gate     *admission.Gate
	replay   auth.Replay // of the authentications
	services map[string]*service
	changed  <-chan struct{} // closed by the first change of Secrets after New
	ran      atomic.Bool

	mu    sync.Mutex             // not held during calls that wait
	conns map[packet.Tuple]*conn // registered with the gate
}

// New returns a Guard. It has no effect outside of it: sockets are used by Run.
// It returns an error that wraps ErrOptions, or another one, if the options are
// invalid.
func New(o Options) (*Guard, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}

	store, remember := o.newStore()
	g := &Guard{o: o, replay: remember, services: make(map[string]*service), conns: make(map[packet.Tuple]*conn)}
	g.changed = o.Secrets.Changed()
	for _, s := range o.Services {
		var err error
		if g.services[s.Name], err = g.newService(s); err != nil {
			return nil, err
		}
	}

	policy, err := g.newPolicy(nil)
	if err != nil {
		return nil, err
	}
	g.gate, err = admission.New(admission.Options{
		Policy: policy, Store: store, Now: o.Now, Log: o.Log, Limits: o.Limits.admission(), Ban: admission.Ban(o.Ban),
		Deliver: func(*packet.Packet, admission.Verdict) {}, // no SYN is ever deferred
		Evicted: g.evicted, Revoked: g.evicted,
		Knocked: o.Knocked,
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// newService returns the handshaker of a service.
func (g *Guard) newService(s Service) (*service, error) {
	t := &service{Service: s, guard: g}
	if s.Mode == ModeKnock {
		return t, nil
	}
	t.auth = &auth.Server{
		Port: s.Port, Protocols: s.Auth.Protocols, Hint: s.Auth.Hint, Buckets: s.Auth.Buckets, Proof: s.Auth.Proof,
		Deadline: s.Auth.Deadline, MaxTrials: s.Auth.MaxTrials, Window: cmp.Or(g.o.Window, DefaultWindow), Now: g.o.Now,
		Replay:    g.replay,
		Others:    t.otherCandidates,
		Authorize: t.authorize,
	}
	if err := t.auth.Check(); err != nil {
		return nil, fmt.Errorf("%w: service %q: %w", ErrOptions, s.Name, err)
	}
	return t, nil
}

// Guard returns a listener for the connections of inner that may use a service.
// Its Accept returns an *auth.Conn, whose Peer has the client; in ModeKnock the
// Peer has nothing else. o is as for auth.NewListener; in ModeKnock the
// handshake of a connection is the search for its grant. The listener takes
// ownership of inner; the caller must Close the listener. Several listeners may
// guard one service. They accept no connection before Run runs.
func (g *Guard) Guard(service string, inner net.Listener, o auth.ListenerOptions) (*auth.Listener, error) {
	s := g.services[service]
	if s == nil {
		return nil, fmt.Errorf("guard: there is no service %q among Options.Services", service)
	}
	return auth.NewListener(&listener{Listener: inner, service: s}, s, o), nil
}

// Stats returns the counters and gauges of the gate. Here, packets are datagrams
// and accepted connections.
func (g *Guard) Stats() Stats { return g.gate.Stats() }

// Usage returns the usage of all limited resources of the gate and its store.
func (g *Guard) Usage() []Usage { return g.gate.Usage() }

// Run takes knocks and follows the changes of Options.Secrets until ctx ends;
// then it closes Options.Knocks and returns nil. It returns an error if a
// socket fails or the changed Secrets allow no policy. After it no connection
// is admitted; established connections continue, and the listeners remain open
// until their owner closes them. Run may be called once.
func (g *Guard) Run(ctx context.Context) error {
	if g.ran.Swap(true) {
		return errors.New("guard: Run was called before")
	}

	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	for _, socket := range g.o.Knocks {
		running.Go(func() {
			if err := g.readKnocks(work, socket); err != nil {
				stop(err)
			}
		})
	}
	running.Go(func() {
		if err := g.gate.Run(work); err != nil {
			stop(err)
		}
	})
	running.Go(func() {
		if err := g.watchSecrets(work, g.changed); err != nil {
			stop(err)
		}
	})

	<-work.Done()
	g.gate.Drain()
	for _, socket := range g.o.Knocks {
		_ = socket.Close() // nothing is being sent that could be lost
	}
	running.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(work)
}
