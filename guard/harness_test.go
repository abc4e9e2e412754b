package guard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout is how long a test waits for an expected event: long, because several
// test processes may share a processor.
const timeout = 30 * time.Second

// The services of tests by their protected ports, which their listeners do not
// have.
const (
	open      = 8001 // mode auth
	quiet     = 8002 // mode knock
	api       = 8003 // mode knock-auth
	private   = 8004 // mode knock-auth, for alice alone
	sequences = 8005 // mode knock, by udp-seq
	modern    = 8006 // mode knock-auth, by udp-v2
)

func identity(id string) *protocol.Client {
	c, err := protocol.NewClient(id, []byte(id+", whose secret is long enough"))
	if err != nil {
		panic(err)
	}
	return c
}

var (
	alice = identity("alice")
	bob   = identity("bob")
	carol = identity("carol") // knows of the services, and nothing else
)

// harness is a running Guard with a listener for each service, on loopback.
type harness struct {
	*testing.T
	guard   *guard.Guard
	secrets *auth.Secrets
	knocks  uint16 // the UDP port
	addrs   map[uint16]string
	accepts map[uint16]chan *auth.Conn
	stop    func()

	mu      sync.Mutex
	events  []guard.KnockEvent
	results map[auth.Result]int
}

// newHarness starts a harness at host. It skips the test if the system has no
// such address.
func newHarness(t *testing.T, host string, change ...func(*guard.Options)) *harness {
	t.Helper()
	socket, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skip("no such address here: ", err)
	}
	w := &harness{
		T: t, secrets: auth.NewSecrets(alice, bob), knocks: netip.MustParseAddrPort(socket.LocalAddr().String()).Port(),
		addrs: make(map[uint16]string), accepts: make(map[uint16]chan *auth.Conn), results: make(map[auth.Result]int),
	}
	o := guard.Options{
		Secrets: w.secrets, Knocks: []net.PacketConn{socket},
		Services: []guard.Service{
			{Name: "open", Port: open, Mode: guard.ModeAuth, Auth: guard.Auth{Proof: true, Deadline: time.Second}},
			{Name: "quiet", Port: quiet, Mode: guard.ModeKnock},
			{Name: "api", Port: api, Mode: guard.ModeKnockAuth, Auth: guard.Auth{Proof: true, Deadline: time.Second}},
			{Name: "private", Port: private, Mode: guard.ModeKnockAuth, Clients: []string{"alice"}, Auth: guard.Auth{Proof: true, Deadline: time.Second}},
			{Name: "sequences", Port: sequences, Mode: guard.ModeKnock, Methods: []string{protocol.MethodUDPSeq}},
			{Name: "modern", Port: modern, Mode: guard.ModeKnockAuth, Methods: []string{protocol.MethodUDPv2}, Auth: guard.Auth{Proof: true, Deadline: time.Second}},
		},
		Knocked: func(e guard.KnockEvent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
	for _, c := range change {
		c(&o)
	}
	if w.guard, err = guard.New(o); err != nil {
		t.Fatal(err)
	}
	var closing []net.Listener
	var running sync.WaitGroup
	for _, s := range o.Services {
		inner, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		ln, err := w.guard.Guard(s.Name, inner, auth.ListenerOptions{Report: w.report})
		if err != nil {
			t.Fatal(err)
		}
		closing = append(closing, ln)
		accepted := make(chan *auth.Conn)
		w.addrs[s.Port], w.accepts[s.Port] = ln.Addr().String(), accepted
		running.Go(func() {
			defer close(accepted)
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				select {
				case accepted <- conn.(*auth.Conn):
				case <-t.Context().Done(): // before the clean-up
					_ = conn.Close()
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() {
		if err := w.guard.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.stop = sync.OnceFunc(func() {
		cancel()
		for _, ln := range closing {
			_ = ln.Close()
		}
		running.Wait()
	})
	t.Cleanup(w.stop)
	return w
}

func (w *harness) report(e auth.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results[e.Result]++
}

func (w *harness) result(r auth.Result) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.results[r]
}

// dialer returns a dialer of a client for a service.
func (w *harness) dialer(id *protocol.Client, port uint16) *client.Dialer {
	d := &client.Dialer{Identity: id, Port: port, KnockPort: w.knocks, Auth: auth.Client{Proof: true}, Timeout: timeout}
	switch port {
	case open:
		d.NoKnock = true
	case quiet:
		d.NoAuth = true
	case sequences:
		d.NoAuth, d.Method = true, protocol.MethodUDPSeq
		d.Sequence.Gap = time.Millisecond
	case modern:
		d.Method = protocol.MethodUDPv2
	}
	return d
}

// connect dials and accepts.
func (w *harness) connect(id *protocol.Client, port uint16) (near net.Conn, far *auth.Conn) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), timeout)
	defer cancel()
	near, err := w.dialer(id, port).DialContext(ctx, "tcp", w.addrs[port])
	if err != nil {
		w.Fatal(err)
	}
	return near, w.far(near, port)
}

// far accepts the other end of a connection. On a busy machine a dialer makes
// several attempts and keeps one of them; the gate may have admitted each, and
// abandoned ones are accepted, too.
func (w *harness) far(near net.Conn, port uint16) *auth.Conn {
	w.Helper()
	want := unmapped(near.LocalAddr())
	for deadline := time.After(timeout); ; {
		select {
		case far := <-w.accepts[port]:
			if unmapped(far.RemoteAddr()) == want {
				return far
			}
			_ = far.Close()
		case <-deadline:
			w.Fatal("nothing to accept")
		}
	}
}

// unmapped returns an address with an IPv4-mapped one as IPv4.
func unmapped(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// greet answers each connection to a port with one word until stop is called,
// however many attempts the dialers make.
func (w *harness) greet(port uint16) (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case far := <-w.accepts[port]:
				_, _ = io.WriteString(far, greeting)
				_ = far.Close()
			case <-over:
				return
			}
		}
	}()
	return func() { close(over); <-done }
}

// greeting is the word of greet.
const greeting = "hello"

// greeted dials and reads the greeting. Without an authentication a dialer
// cannot know whether it was admitted: if the knock was read too late, it dials
// again.
func (w *harness) greeted(id *protocol.Client, port uint16) error {
	for deadline := time.Now().Add(timeout); ; {
		conn, err := w.dialer(id, port).DialContext(w.Context(), "tcp", w.addrs[port])
		if err != nil {
			return err
		}
		b, err := io.ReadAll(conn)
		_ = conn.Close()
		switch {
		case errors.Is(err, syscall.ECONNRESET) && port == quiet && time.Now().Before(deadline):
		case err != nil || string(b) != greeting:
			return fmt.Errorf("%q: %w", b, err)
		default:
			return nil
		}
	}
}

// refused checks that a connection ends in a reset before anything is read from
// it.
func (w *harness) refused(conn net.Conn, err error) {
	w.Helper()
	if err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(timeout))
		var n int
		if n, err = conn.Read(make([]byte, 1)); n != 0 {
			w.Error("a byte for an unauthorized host")
		}
		_ = conn.Close()
	}
	var timeout net.Error
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &timeout) && timeout.Timeout() {
		w.Errorf("not reset: %v", err)
	}
}

// empty waits until the gate has removed every flow, including those that
// dialers have abandoned.
func (w *harness) empty() {
	w.Helper()
	for deadline := time.Now().Add(timeout); ; time.Sleep(time.Millisecond) {
		for _, accepts := range w.accepts {
			select {
			case far, ok := <-accepts:
				if ok {
					_ = far.Close()
				}
			default:
			}
		}
		if s := w.guard.Stats(); s.Flows == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("flows are left: %+v", w.guard.Stats())
		}
	}
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }

// nonces are random bytes for one knock.
type nonces struct{}

func (nonces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i)
	}
	return len(b), nil
}
