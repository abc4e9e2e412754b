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
// of the stack, so that one system call to the upstream takes the payload of
// several packets.
const bufferSize = 256 << 10

// A pooledBuf is the buffer of one direction. It is taken from the pool only
// while there is something to move, so that idle flows have none.
type pooledBuf struct {
	pool *sync.Pool // of *[]byte, bufferSize bytes each
	b    *[]byte    // nil when none is held
}

// get returns the buffer, after taking one from the pool if necessary.
func (l *pooledBuf) get() []byte {
	if l.b == nil {
		l.b = l.pool.Get().(*[]byte)
	}
	return *l.b
}

// put returns the buffer to the pool.
func (l *pooledBuf) put() {
	if l.b != nil {
		l.pool.Put(l.b)
		l.b = nil
	}
}

// A bufReader reads into a buffer that it takes from the pool once there is
// something to read.
type bufReader interface {
	readInto(l *pooledBuf) (int, error)
}

// reader returns the function that reads from src.
func reader(src Conn) func(*pooledBuf) (int, error) {
	if s, ok := src.(bufReader); ok {
		return s.readInto
	}
	return func(l *pooledBuf) (int, error) { return src.Read(l.get()) }
}

// relay joins the two connections until both directions have ended, one of them
// fails, or no byte is relayed for the idle time. It closes both.
func (t *Table) relay(ctx context.Context, f *Flow, client, upstream Conn, p *Plan) CloseReason {
	t.countStarted()
	defer f.startIdleTimer(p)()
	var (
		end  = CloseEOF
		once sync.Once
		wg   sync.WaitGroup
	)

	// The first failure is the reason, and makes the other direction fail.
	fail := func(e CloseReason) {
		once.Do(func() {
			end = e
			client.Abort()
			upstream.Abort()
		})
	}
	release := ctxutil.AfterFunc(ctx, func() { fail(closeReason(ctx, CloseKilled)) })

	up := direction{
		table: t, f: f, dst: upstream, src: client, moved: &f.up,
		writeFailed: CloseUpstreamReset, readFailed: CloseClientReset,
	}
	down := direction{
		table: t, f: f, dst: client, src: upstream, moved: &f.down,
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

	// Closing a connection that was aborted has no effect.
	_ = client.Close()
	_ = upstream.Close()
	return end
}

// A counter counts the bytes of a direction.
type counter interface{ Add(uint64) uint64 }

// A direction is one half of a relay.
type direction struct {
	table                   *Table
	f                       *Flow
	dst, src                Conn
	moved                   counter
	writeFailed, readFailed CloseReason // the results when writing or reading fails
}

// copyLoop relays bytes until src ends, and then closes the write side of dst.
func (d *direction) copyLoop() CloseReason {
	read := reader(d.src)
	l := pooledBuf{pool: &d.table.buffers}
	defer l.put()
	for {
		n, err := read(&l)
		if end, over := d.forward(&l, n, err); over {
			return end
		}
		l.put()
	}
}

// forward writes the result of a read to dst. It reports whether the direction
// has ended.
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

// A notifier is a source that says when it can be read, so that no goroutine
// has to wait.
type notifier interface {
	// CanRead reports whether Read would not block: there is data, the end or
	// an error.
	CanRead() bool
	// NotifyRead calls ready whenever CanRead may have become true, until stop.
	NotifyRead(ready func()) (stop func())
}

// start relays in a goroutine and calls done at the end. A source that notifies
// has a goroutine only while there is something to move: stacks are most of the
// memory of idle flows.
func (d *direction) start(over func(CloseReason)) {
	src, ok := d.src.(notifier)
	if !ok {
		go func() { over(d.copyLoop()) }()
		return
	}
	p := &eventCopier{direction: d, src: src, done: over}
	p.state.Store(copierRunning)
	p.stop = src.NotifyRead(p.ready)
	go p.run() // there may be data already
}

// An eventCopier relays a direction whose source notifies.
//
//	      ready: a goroutine starts          ready
//	idle --------------------------> running ------> rerun
//	 ^                                |  ^             |
//	 '--------------------------------'  '-------------'
//	   nothing to read                     nothing to read: check again
//
// When it is done it stays running, so that no other goroutine starts.
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

// run relays the available bytes.
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

// drain relays bytes until none are available, or the direction has ended.
func (p *eventCopier) drain() (end CloseReason, over bool) {
	l := pooledBuf{pool: &p.table.buffers}
	defer l.put()
	for p.src.CanRead() {
		n, err := p.direction.src.Read(l.get())
		if end, over := p.forward(&l, n, err); over {
			return end, true
		}
	}
	return 0, false
}
