//go:build linux

package netns_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// exchanges are the streams both ways, and exchangeBlock what each has
	// under way at a time, in bytes, every exchangePause: some 50 MB/s in all,
	// which leaves the machine something for the reloads.
	exchanges     = 4
	exchangeBlock = 64 << 10
	exchangePause = 5 * time.Millisecond

	// visitPause is between two new connections of one endpoint.
	visitPause = 50 * time.Millisecond

	// bulkSeconds is how long one run of iperf3 takes, at bulkRate bits a
	// second, in the one direction and in the other alternating.
	bulkSeconds = 2
	bulkRate    = "200M"
)

// serveEcho starts a service on the upstream that sends back what it is sent,
// and returns its address.
func serveEcho(l *lab.Lab) string {
	listener := l.Upstream.Listen("tcp", netip.AddrPortFrom(l.Upstream.Addr6, 7).String())
	go func() {
		var all sync.WaitGroup
		defer all.Wait()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed with the test
			}
			all.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	}()
	return listener.Addr().String()
}

// A load is the traffic of services that no change is about. It may be paused,
// when nothing is under way but the connections stay.
type load struct {
	moving sync.RWMutex // held for reading by who has something under way, and otherwise
	paused bool         // in a pause
	over   context.Context
	stop   context.CancelFunc
	all    sync.WaitGroup
	lasts  []*drip // sessions with rare traffic
	echos  []net.Conn

	bytes, visits, bulks atomic.Int64

	mu   sync.Mutex
	errs []error
}

// String says how much it was so far.
func (b *load) String() string {
	return fmt.Sprintf("%d MB there and back, %d new connections, %d runs of iperf3", b.bytes.Load()/1e6, b.visits.Load(), b.bulks.Load())
}

// keep does something again and again until the load is over or something has
// failed.
func (b *load) keep(pause time.Duration, do func() error) {
	b.all.Go(func() {
		for b.over.Err() == nil {
			b.moving.RLock()
			err := do()
			b.moving.RUnlock()
			if err != nil {
				b.mu.Lock()
				b.errs = append(b.errs, fmt.Errorf("at %s, after %s: %w", time.Now().Format(time.RFC3339Nano), b, err))
				b.mu.Unlock()
				return
			}
			time.Sleep(pause)
		}
	})
}

// beginLoad begins sessions and streams, and short connections.
func (o *operator) beginLoad(t *testing.T, hidden []endpoint, bulk *iperf, echo endpoint) *load {
	t.Helper()
	b := &load{lasts: drips(t, o.Lab, hidden)}
	b.over, b.stop = context.WithCancel(t.Context())
	t.Cleanup(func() {
		b.stop()
		b.resume() // where the test has ended in a pause
		b.all.Wait()
	})
	v := alice(o.Client)
	for range exchanges {
		conn, err := echo.enter(withTimeout(t, admitTime), v)
		if err != nil {
			t.Fatal(err)
		}
		b.echos = append(b.echos, conn)
		t.Cleanup(func() { _ = conn.Close() })
		x := &exchange{conn: conn}
		b.keep(exchangePause, func() error {
			b.bytes.Add(exchangeBlock)
			return x.turn()
		})
	}
	for _, d := range hidden {
		b.keep(visitPause, func() error {
			b.visits.Add(1)
			return d.visit(t.Context(), v, o.lines.Greeting)
		})
	}
	b.keep(0, func() error {
		flags := []string{"--bitrate", bulkRate}
		if b.bulks.Add(1)%2 == 0 {
			flags = append(flags, "--reverse")
		}
		return bulk.measure(t.Context(), v, bulkSeconds, flags...)
	})
	return b
}

// An exchange is a stream of numbers there and back, none of them lost,
// duplicated or reordered.
type exchange struct {
	conn net.Conn
	next uint64
}

// turn sends the next numbers and reads them back.
func (x *exchange) turn() error {
	sent, got := make([]byte, 0, exchangeBlock), make([]byte, exchangeBlock)
	for ; len(sent) < exchangeBlock; x.next++ {
		sent = binary.BigEndian.AppendUint64(sent, x.next)
	}
	if err := x.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := x.conn.Write(sent)
		wrote <- err
	}()
	_, err := io.ReadFull(x.conn, got)
	if err = errors.Join(err, <-wrote); err != nil {
		return fmt.Errorf("a stream ended before number %d: %w", x.next, err)
	}
	if !bytes.Equal(sent, got) {
		return fmt.Errorf("a stream has other bytes before number %d", x.next)
	}
	return nil
}

func (b *load) failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.errs) > 0
}

// pause waits until nothing is under way, and the gateway serves no flows but
// those that last. Connections that iperf3's server has closed stay in the
// gateway's table for the ten seconds of TIME_WAIT; forgotten says to wait for
// that, too.
func (b *load) pause(t *testing.T, o *operator, forgotten bool) {
	t.Helper()
	b.moving.Lock()
	b.paused = true
	want := float64(len(b.lasts) + len(b.echos))
	for began := time.Now(); ; time.Sleep(pausePoll) {
		m := o.gateway.Metrics()
		flows, table, open := m["knockgw_flows"], m["knockgw_flow_table_entries"], m["knockgw_half_open_flows"]
		switch {
		case flows == want && open == 0 && (table == want || !forgotten):
			return
		case time.Since(began) > quietTime:
			t.Errorf("with nothing under way there are %v flows, want %v; %v in the table, %v half-open", flows, want, table, open)
			return
		}
	}
}

const (
	// quietTime is how long it takes at most until all that is over is
	// forgotten: longer than TIME_WAIT.
	quietTime = 30 * time.Second
	pausePoll = 100 * time.Millisecond
)

// resume ends a pause, if there is one.
func (b *load) resume() {
	if b.paused {
		b.paused = false
		b.moving.Unlock()
	}
}

// end ends the load, and fails the test if anything of it failed.
func (b *load) end(t *testing.T) {
	t.Helper()
	b.stop()
	b.all.Wait()
	for _, err := range b.errs {
		t.Error(err)
	}
	for _, d := range b.lasts {
		d.flows(t)
	}
	for _, conn := range b.echos {
		// A stream that was not ended has nothing more to say than what was
		// asked for, and then its end.
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
		if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
			t.Errorf("at its end a stream has %d bytes too many, %v", len(rest), err)
		}
	}
	t.Logf("in all, %s", b)
}
