package flows

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A half is one direction of a stream in memory. Like in a kernel, its buffer is
// limited.
type half struct {
	mu   sync.Mutex
	cond *sync.Cond
	b    []byte
	room int
	err  error // returned to a reader after b; io.EOF after a FIN

	notify func() // called when it can be read; may be nil
}

const streamRoom = 1000

func newHalf() *half {
	h := &half{room: streamRoom}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.b) == 0 && h.err == nil {
		h.cond.Wait()
	}
	if len(h.b) == 0 {
		return 0, h.err
	}
	n := copy(b, h.b)
	h.b = h.b[n:]
	h.cond.Broadcast()
	return n, nil
}

func (h *half) write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < len(b) {
		if h.err != nil {
			return n, h.err
		}
		if free := min(h.room-len(h.b), len(b)-n); free > 0 {
			h.b = append(h.b, b[n:n+free]...)
			n += free
			h.changed()
		} else {
			h.cond.Wait()
		}
	}
	return n, nil
}

func (h *half) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil || err != io.EOF {
		h.err = err
	}
	if err != io.EOF {
		h.b = nil
	}
	h.changed()
}

// changed wakes the waiting goroutines. The caller holds h.mu.
func (h *half) changed() {
	h.cond.Broadcast()
	if h.notify != nil {
		h.notify()
	}
}

var errReset = errors.New("connection reset")

// A pipeEnd is one end of a stream in memory.
type pipeEnd struct {
	in, out *half
	events  *events
	name    string
}

// pair returns the two ends of a connection: near is the gateway's.
func pair(e *events, name string) (near, far *pipeEnd) {
	a, b := newHalf(), newHalf()
	return &pipeEnd{a, b, e, name}, &pipeEnd{b, a, new(events), name}
}

func (s *pipeEnd) Read(b []byte) (int, error)  { return s.in.read(b) }
func (s *pipeEnd) Write(b []byte) (int, error) { return s.out.write(b) }
func (s *pipeEnd) CloseWrite() error           { s.out.end(io.EOF); return nil }
func (s *pipeEnd) Abort() {
	s.events.add("abort " + s.name)
	s.in.end(errReset)
	s.out.end(errReset)
}
func (s *pipeEnd) Close() error {
	s.events.add("close " + s.name)
	s.out.end(io.EOF)
	s.in.end(net.ErrClosed)
	return nil
}
func (s *pipeEnd) LocalAddr() net.Addr              { return nil }
func (s *pipeEnd) RemoteAddr() net.Addr             { return nil }
func (s *pipeEnd) SetDeadline(time.Time) error      { return nil }
func (s *pipeEnd) SetReadDeadline(time.Time) error  { return nil }
func (s *pipeEnd) SetWriteDeadline(time.Time) error { return nil }

// events are the events of a flow, in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, what)
}

func (e *events) list() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// A harness is a request with a client and an upstream in memory.
type harness struct {
	*testing.T
	events   events
	set      *Table
	plan     Plan
	client   *pipeEnd // the client's own end
	upstream *pipeEnd // the upstream's own end
	near     *pipeEnd // the gateway's end of the client's connection

	accept error         // the error of Accept
	hold   chan struct{} // Accept waits for it, unless it is nil
	given  chan struct{} // closed by Reset and Drop
	once   sync.Once
}

var key = Key{netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("10.77.0.1:22")}

func newHarness(t *testing.T) *harness {
	th := &harness{T: t, set: NewTable(slog.New(slog.DiscardHandler)), given: make(chan struct{})}
	th.use(th.set)
	return th
}

func (th *harness) use(s *Table) *harness {
	th.set = s
	var near *pipeEnd
	th.near, th.client = pair(&th.events, "client")
	near, th.upstream = pair(&th.events, "upstream")
	th.plan = Plan{
		Key: key, Service: "ssh", DialTimeout: time.Second, Idle: time.Minute,
		HandshakeDone: func() error { th.events.add("complete"); return nil },
		Dial: func(context.Context) (net.Conn, error) {
			th.events.add("dial")
			return near, nil
		},
		OnDrop:  func() { th.events.add("on-drop") },
		OnClose: func() { th.events.add("closed") },
	}
	return th
}

// authenticated makes the client authenticate as alice.
func (th *harness) authenticated() *harness {
	th.plan.Authenticate = func(context.Context, net.Conn) (string, error) {
		th.events.add("authenticate")
		return "alice", nil
	}
	return th
}

// knocked makes the flow dial the upstream first.
func (th *harness) knocked() *harness {
	th.plan.DialFirst = true
	th.plan.Client = func() string { return "alice" }
	return th
}

func (th *harness) Accept() (Conn, error) {
	th.events.add("accept")
	if th.hold != nil {
		select {
		case <-th.hold:
		case <-th.given:
			return nil, errors.New("given up")
		}
	}
	if th.accept != nil {
		return nil, th.accept
	}
	return notifying{th.near}, nil
}

func (th *harness) Reset() { th.give("reset") }
func (th *harness) Drop()  { th.give("drop") }

func (th *harness) give(how string) {
	th.once.Do(func() {
		th.events.add(how)
		close(th.given)
		th.near.in.end(errReset)
		th.near.out.end(errReset)
	})
}

// serve serves the request and returns a channel that is closed at its end.
func (th *harness) serve() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		th.set.Serve(context.Background(), th, &th.plan)
	}()
	return done
}

// happened fails unless the events are these, in this order.
func (th *harness) happened(want ...string) {
	th.Helper()
	if got := th.events.list(); !slices.Equal(got, want) {
		th.Errorf("happened:\n  %q\nwant:\n  %q", got, want)
	}
}

// ended fails unless one flow ended, for this reason.
func (th *harness) ended(e CloseReason) {
	th.Helper()
	totals := th.set.Totals()
	var want [NumCloseReasons]uint64
	want[e] = 1
	if totals.Closed != want || th.set.Len() != 0 {
		th.Errorf("reasons %v, %d flows left; want one %q", totals.Closed, th.set.Len(), e)
	}
}

// send writes b to an end that the test holds.
func (th *harness) send(s io.Writer, b string) {
	th.Helper()
	if _, err := io.WriteString(s, b); err != nil {
		th.Errorf("write: %v", err)
	}
}

// receive fails unless it reads want.
func (th *harness) receive(s io.Reader, want string) {
	th.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(s, b); err != nil || string(b) != want {
		th.Errorf("received %q, %v; want %q", b, err, want)
	}
}

// receiveEnd fails unless the stream ends with this error.
func (th *harness) receiveEnd(s io.Reader, want error) {
	th.Helper()
	if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		th.Errorf("received %d bytes, %v; want %v", n, err, want)
	}
}

// bubble runs f with a fake clock (testing/synctest).
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

// held waits for the end of ctx, as an operation that gets no answer does.
func held(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
