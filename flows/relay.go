package flows

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/knockgw/knockgw/internal/ctxutil"
)

// bufferSize is how many bytes one step of a relay may move: four super-packets
// of the stack, so that one system call to the upstream takes what several
// packets brought.
const bufferSize = 256 << 10

// lease is the buffer of one direction. It is held only while there is
// something to move, so that an idle flow holds none.
type lease struct {
	pool *sync.Pool // of *[]byte, bufferSize bytes each
	b    *[]byte    // nil when none is held
}

// take returns the buffer, fetching one if none is held.
func (l *lease) take() []byte {
	if l.b == nil {
		l.b = l.pool.Get().(*[]byte)
	}
	return *l.b
}

// drop gives the buffer back, if one is held.
func (l *lease) drop() {
	if l.b != nil {
		l.pool.Put(l.b)
		l.b = nil
	}
}

// A leaser reads into a buffer that it takes once there is something to read.
type leaser interface {
	readLease(l *lease) (int, error)
}

// reader returns how to read src.
func reader(src Conn) func(*lease) (int, error) {
	if s, ok := src.(leaser); ok {
		return s.readLease
	}
	return func(l *lease) (int, error) { return src.Read(l.take()) }
}

// relay joins the two connections until both directions have ended, one of
// them fails, or nothing moves for the idle time. It closes both.
func (s *Set) relay(ctx context.Context, f *Flow, client, upstream Conn, p *Plan) End {
	s.began()
	defer f.watchIdle(p)()
	var (
		end  = EndDone
		once sync.Once
		wg   sync.WaitGroup
	)
	// The first failure is the cause, and makes the other direction fail.
	fail := func(e End) {
		once.Do(func() {
			end = e
			client.Abort()
			upstream.Abort()
		})
	}
	release := ctxutil.Done(ctx, func() { fail(ending(ctx, EndKilled)) })
	up := direction{
		s: s, f: f, dst: upstream, src: client, moved: &f.up,
		toFailed: EndUpstreamReset, fromFailed: EndClientReset,
	}
	down := direction{
		s: s, f: f, dst: client, src: upstream, moved: &f.down,
		toFailed: EndClientReset, fromFailed: EndUpstreamReset,
	}
	wg.Add(1)
	up.start(func(e End) {
		defer wg.Done()
		if e != EndDone {
			fail(e)
		}
	})
	if e := down.pump(); e != EndDone {
		fail(e)
	}
	wg.Wait()
	release()
	// Both are told: a connection that was aborted takes no harm.
	_ = client.Close()
	_ = upstream.Close()
	return end
}

// counter is what a direction adds to.
type counter interface{ Add(uint64) uint64 }

// direction is one half of a relay.
type direction struct {
	s                    *Set
	f                    *Flow
	dst, src             Conn
	moved                counter
	toFailed, fromFailed End // the results when writing or reading fails
}

// pump moves bytes until src ends, and passes the end on.
func (d *direction) pump() End {
	read := reader(d.src)
	l := lease{pool: &d.s.buffers}
	defer l.drop()
	for {
		n, err := read(&l)
		if end, over := d.pass(&l, n, err); over {
			return end
		}
		l.drop()
	}
}

// pass does with the outcome of a read what is to be done.
func (d *direction) pass(l *lease, n int, err error) (end End, over bool) {
	if n > 0 {
		d.f.moves()
		d.moved.Add(uint64(n))
		if _, err := d.dst.Write((*l.b)[:n]); err != nil {
			return d.toFailed, true
		}
		d.f.moves()
	}
	if errors.Is(err, io.EOF) {
		if err := d.dst.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			return d.toFailed, true
		}
		d.f.idle.halfClose()
		return EndDone, true
	}
	return d.fromFailed, err != nil
}

// A notifier says when it has something to read, so that nobody needs to wait.
type notifier interface {
	// CanRead tells whether Read would not wait, be it for data, the end or an error.
	CanRead() bool
	// NotifyRead has ready called whenever CanRead may have become true, until stop.
	NotifyRead(ready func()) (stop func())
}

// start pumps in a goroutine and calls over at the end. A source that notifies
// has a goroutine only while there is something to move: the stacks are most of
// what an idle flow would cost.
func (d *direction) start(over func(End)) {
	src, ok := d.src.(notifier)
	if !ok {
		go func() { over(d.pump()) }()
		return
	}
	p := &onDemand{direction: d, src: src, over: over}
	p.state.Store(awake)
	p.stop = src.NotifyRead(p.ready)
	go p.run() // something may have come before
}

// onDemand is a direction whose source notifies.
//
//	       ready: a goroutine begins          ready
//	asleep ------------------------> awake ----------> again
//	   ^                              |  ^               |
//	   '------------------------------'  '---------------'
//	     nothing to read                   nothing to read: look once more
//
// At the end it stays awake, so that none begins any more.
type onDemand struct {
	*direction
	src   notifier
	over  func(End)
	stop  func()
	state atomic.Int32
}

const (
	asleep = iota
	awake
	again
)

// ready is called by the source.
func (p *onDemand) ready() {
	for {
		switch p.state.Load() {
		case asleep:
			if p.state.CompareAndSwap(asleep, awake) {
				go p.run()
				return
			}
		case awake:
			if p.state.CompareAndSwap(awake, again) {
				return
			}
		default:
			return
		}
	}
}

// run moves what there is.
func (p *onDemand) run() {
	for {
		if end, over := p.drain(); over {
			p.stop()
			p.over(end)
			return
		}
		if p.state.CompareAndSwap(awake, asleep) {
			return
		}
		p.state.Store(awake)
	}
}

// drain moves bytes until there are none to be had, or no more will come.
func (p *onDemand) drain() (end End, over bool) {
	l := lease{pool: &p.s.buffers}
	defer l.drop()
	for p.src.CanRead() {
		n, err := p.direction.src.Read(l.take())
		if end, over := p.pass(&l, n, err); over {
			return end, true
		}
	}
	return 0, false
}
