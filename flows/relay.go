package flows

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
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

// A waiter says when it has something to read, before there is a buffer to
// read it into.
type waiter interface {
	// WaitRead returns when Read would not block, be it for data, the end, or an error.
	WaitRead()
}

// reader returns how to read src.
func reader(src Conn) func(*lease) (int, error) {
	if s, ok := src.(leaser); ok {
		return s.readLease
	}
	wait := func() {}
	if s, ok := src.(waiter); ok {
		wait = s.WaitRead
	}
	return func(l *lease) (int, error) {
		wait()
		return src.Read(l.take())
	}
}

// relay joins the two connections until both directions have ended, one of
// them fails, or nothing moves for the idle time. It closes both.
func (s *Set) relay(ctx context.Context, f *Flow, client, upstream Conn, idle time.Duration) End {
	s.began()
	defer f.watchIdle(idle)()
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
	release := whenDone(ctx, func() { fail(ending(ctx, EndKilled)) })
	wg.Go(func() {
		if e := s.pump(f, upstream, client, &f.up, EndUpstreamReset, EndClientReset); e != EndDone {
			fail(e)
		}
	})
	if e := s.pump(f, client, upstream, &f.down, EndClientReset, EndUpstreamReset); e != EndDone {
		fail(e)
	}
	wg.Wait()
	release()
	// Both are told: a connection that was aborted takes no harm.
	_ = client.Close()
	_ = upstream.Close()
	return end
}

// counter is what pump adds to.
type counter interface{ Add(uint64) uint64 }

// pump moves one direction until src ends, and passes the end on. toFailed and
// fromFailed are the results when writing or reading fails.
func (s *Set) pump(f *Flow, dst, src Conn, moved counter, toFailed, fromFailed End) End {
	read := reader(src)
	l := lease{pool: &s.buffers}
	defer l.drop()
	for {
		n, err := read(&l)
		if n > 0 {
			f.moves()
			moved.Add(uint64(n))
			if _, err := dst.Write((*l.b)[:n]); err != nil {
				return toFailed
			}
			f.moves()
		}
		l.drop()
		if errors.Is(err, io.EOF) {
			if err := dst.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
				return toFailed
			}
			return EndDone
		}
		if err != nil {
			return fromFailed
		}
	}
}

// watchIdle ends the flow when no byte has moved in either direction for idle.
// Zero means never.
func (f *Flow) watchIdle(idle time.Duration) (stop func()) {
	if idle <= 0 {
		return func() {}
	}
	f.moves()
	var (
		mu      sync.Mutex
		timer   *time.Timer
		stopped bool
	)
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(idle, func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		quiet := time.Since(f.Started) - time.Duration(f.active.Load())
		if quiet >= idle {
			f.cancel(errIdle)
			return
		}
		timer.Reset(idle - quiet)
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}
