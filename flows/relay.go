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

// pooledBuf is the buffer of one direction. It is held only while there is
// something to move, so that an idle flow holds none.
type pooledBuf struct {
	pool *sync.Pool // of *[]byte, bufferSize bytes each
	b    *[]byte    // nil when none is held
}

// get returns the buffer, fetching one if none is held.
func (l *pooledBuf) get() []byte {
	if l.b == nil {
		l.b = l.pool.Get().(*[]byte)
	}
	return *l.b
}

// put gives the buffer back, if one is held.
func (l *pooledBuf) put() {
	if l.b != nil {
		l.pool.Put(l.b)
		l.b = nil
	}
}

// A bufReader reads into a buffer that it takes once there is something to read.
type bufReader interface {
	readInto(l *pooledBuf) (int, error)
}

// reader returns how to read src.
func reader(src Conn) func(*pooledBuf) (int, error) {
	if s, ok := src.(bufReader); ok {
		return s.readInto
	}
	return func(l *pooledBuf) (int, error) { return src.Read(l.get()) }
}

// relay joins the two connections until both directions have ended, one of
// them fails, or nothing moves for the idle time. It closes both.
func (s *Table) relay(ctx context.Context, f *Flow, client, upstream Conn, p *Plan) CloseReason {
	s.countStarted()
	defer f.startIdleTimer(p)()
	var (
		end  = CloseEOF
		once sync.Once
		wg   sync.WaitGroup
	)
	// The first failure is the cause, and makes the other direction fail.
	fail := func(e CloseReason) {
		once.Do(func() {
			end = e
			client.Abort()
			upstream.Abort()
		})
	}
	release := ctxutil.AfterFunc(ctx, func() { fail(closeReason(ctx, CloseKilled)) })
	up := direction{
		s: s, f: f, dst: upstream, src: client, moved: &f.up,
		writeFailed: CloseUpstreamReset, readFailed: CloseClientReset,
	}
	down := direction{
		s: s, f: f, dst: client, src: upstream, moved: &f.down,
		writeFailed: CloseClientReset, readFailed: CloseUpstreamReset,
	}
	wg.Add(1)
	up.start(func(e CloseReason) {
		defer wg.Done()
		if e != CloseEOF {
			fail(e)
		}
	})
	if e := down.copyLoop(); e != CloseEOF {
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
	s                       *Table
	f                       *Flow
	dst, src                Conn
	moved                   counter
	writeFailed, readFailed CloseReason // the results when writing or reading fails
}

// copyLoop moves bytes until src ends, and passes the end on.
func (d *direction) copyLoop() CloseReason {
	read := reader(d.src)
	l := pooledBuf{pool: &d.s.buffers}
	defer l.put()
	for {
		n, err := read(&l)
		if end, over := d.forward(&l, n, err); over {
			return end
		}
		l.put()
	}
}

// forward does with the outcome of a read what is to be done.
func (d *direction) forward(l *pooledBuf, n int, err error) (end CloseReason, over bool) {
	if n > 0 {
		d.f.touch()
		d.moved.Add(uint64(n))
		if _, err := d.dst.Write((*l.b)[:n]); err != nil {
			return d.writeFailed, true
		}
		d.f.touch()
	}
	if errors.Is(err, io.EOF) {
		if err := d.dst.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			return d.writeFailed, true
		}
		d.f.idleTimer.halfClose()
		return CloseEOF, true
	}
	return d.readFailed, err != nil
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
func (d *direction) start(over func(CloseReason)) {
	src, ok := d.src.(notifier)
	if !ok {
		go func() { over(d.copyLoop()) }()
		return
	}
	p := &eventCopier{direction: d, src: src, done: over}
	p.state.Store(copierRunning)
	p.stop = src.NotifyRead(p.ready)
	go p.run() // something may have come before
}

// eventCopier is a direction whose source notifies.
//
//	       ready: a goroutine begins          ready
//	asleep ------------------------> awake ----------> again
//	   ^                              |  ^               |
//	   '------------------------------'  '---------------'
//	     nothing to read                   nothing to read: look once more
//
// At the end it stays awake, so that none begins any more.
type eventCopier struct {
	*direction
	src   notifier
	done  func(CloseReason)
	stop  func()
	state atomic.Int32
}

const (
	copierIdle = iota
	copierRunning
	copierRerun
)

// ready is called by the source.
func (p *eventCopier) ready() {
	for {
		switch p.state.Load() {
		case copierIdle:
			if p.state.CompareAndSwap(copierIdle, copierRunning) {
				go p.run()
				return
			}
		case copierRunning:
			if p.state.CompareAndSwap(copierRunning, copierRerun) {
				return
			}
		default:
			return
		}
	}
}

// run moves what there is.
func (p *eventCopier) run() {
	for {
		if end, over := p.drain(); over {
			p.stop()
			p.done(end)
			return
		}
		if p.state.CompareAndSwap(copierRunning, copierIdle) {
			return
		}
		p.state.Store(copierRunning)
	}
}

// drain moves bytes until there are none to be had, or no more will come.
func (p *eventCopier) drain() (end CloseReason, over bool) {
	l := pooledBuf{pool: &p.s.buffers}
	defer l.put()
	for p.src.CanRead() {
		n, err := p.direction.src.Read(l.get())
		if end, over := p.forward(&l, n, err); over {
			return end, true
		}
	}
	return 0, false
}
