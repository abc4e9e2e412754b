package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a file in memory.
type sink struct {
	bytes.Buffer
	mu     sync.Mutex
	fail   error
	closed bool
}

func (s *sink) Write(b []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(b)
}

func (s *sink) Close() error {
	s.closed = true
	return nil
}

// lines is what was written.
func (s *sink) lines(t *testing.T) (events []Event) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.String()) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// after runs a Log until it has written all that add adds.
func after(t *testing.T, s *sink, o Options, add func(l *Log)) (*Log, error) {
	t.Helper()
	l := New(s, o)
	add(l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.Run(ctx)
	if !s.closed {
		t.Error("the file was not closed")
	}
	return l, err
}

func TestEventIsOneLineOfJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		_, err := after(t, &s, Options{}, func(l *Log) {
			l.Add(Event{Kind: Knock, Client: "alice", Source: "10.1.1.2", Service: "ssh", Method: "udp"})
			l.Add(Event{
				Kind: Session, Client: "alice", Source: "10.1.1.2:4711", Service: "ssh", Upstream: "10.1.3.2:22",
				Seconds: 1.5, Received: 10, Sent: 20, Reason: "closed by the client",
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		got := s.lines(t)
		if len(got) != 2 || got[0].Kind != Knock || got[1].Sent != 20 || !got[1].Time.Equal(time.Now()) {
			t.Errorf("%s", s.String())
		}
		if strings.Contains(s.String(), "dropped") || strings.Contains(strings.SplitN(s.String(), "\n", 2)[0], "seconds") {
			t.Errorf("empty fields are written: %s", s.String())
		}
	})
}

func TestLogEscapesAndTruncatesText(t *testing.T) {
	const client = "a\x1b[2J\nb\x00\x7f\u009b2J\u202e\U000e0001ü"
	synctest.Test(t, func(t *testing.T) {
		var s sink
		if _, err := after(t, &s, Options{}, func(l *Log) {
			l.Add(Event{Kind: Denied, Client: client, Reason: strings.Repeat("x", 1<<16)})
		}); err != nil {
			t.Fatal(err)
		}
		if line := strings.TrimSuffix(s.String(), "\n"); strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || s.Len() > 1024 {
			t.Errorf("%d bytes: %q", s.Len(), line[:200])
		}
		if got := s.lines(t)[0].Client; got != client {
			t.Errorf("read again it is %q", got)
		}
	})
}

func TestLogCountsDroppedEventsInNextLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		const most = 3
		l, err := after(t, &s, Options{PerSecond: most}, func(l *Log) {
			for range most*burstSeconds + 5 {
				l.Add(Event{Kind: Knock})
			}
			time.Sleep(time.Second)
			l.Add(Event{Kind: Ban})
		})
		if err != nil {
			t.Fatal(err)
		}
		got := s.lines(t)
		if len(got) != most*burstSeconds+1 || l.Dropped() != 5 {
			t.Fatalf("%d lines, %d lost", len(got), l.Dropped())
		}
		if got[0].Dropped != 5 { // it was written after they were left out
			t.Errorf("the first line says that %d are missing", got[0].Dropped)
		}
	})
}

func TestLogReportsWriteFailureOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{fail: errors.New("no space left on device")}
		said := 0
		l := New(&s, Options{Failed: func(error) { said++ }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		l.Add(Event{Kind: Knock})
		l.Add(Event{Kind: Knock})
		synctest.Wait()
		if said != 1 {
			t.Errorf("it was said %d times", said)
		}
		s.fail = nil
		l.Add(Event{Kind: Session})
		synctest.Wait()
		cancel()
		err := <-done
		if err == nil || strings.Count(err.Error(), "no space") != 1 {
			t.Errorf("%v", err)
		}
		if got := s.lines(t); len(got) != 1 || got[0].Dropped != 2 || l.Dropped() != 2 {
			t.Errorf("%s, %d lost", s.String(), l.Dropped())
		}
	})
}

func TestNilLogDoesNothing(t *testing.T) {
	var l *Log
	l.Add(Event{Kind: Knock})
	if l.Dropped() != 0 {
		t.Error("it lost something")
	}
}

func TestLogWritesLineForDroppedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		l := New(&s, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		const events = 1000
		for range events {
			l.Add(Event{Kind: Ban, Source: "192.0.2.1"})
			synctest.Wait() // it has been written, or left out
		}
		counted := func() (n int) {
			for _, e := range s.lines(t) {
				n += int(e.Dropped)
			}
			return n
		}
		written := len(s.lines(t))
		if want := DefaultPerSecond / anonymousShare * burstSeconds; written != want || counted() != 0 {
			t.Errorf("%d bans were written, want %d; and %d were left out", written, want, counted())
		}
		time.Sleep(flushAfter + time.Second)
		synctest.Wait()
		got := s.lines(t)
		if len(got) != written+1 || got[written].Kind != Dropped || counted() != events-written {
			t.Errorf("%d lines, %d left out", len(got), counted())
		}
		time.Sleep(10 * flushAfter)
		synctest.Wait()
		if len(s.lines(t)) != written+1 {
			t.Error("it was said again")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLogNeverDropsOperatorEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		l, err := after(t, &s, Options{}, func(l *Log) {
			for range 2 * maxQueued {
				l.Add(Event{Kind: Denied})
				l.Add(Event{Kind: Session})
			}
			for _, k := range []Kind{Start, Reload, Revoke, Unban, Stop} {
				l.Add(Event{Kind: k, Operator: "root"})
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		var operators, refused, sessions int
		for _, e := range s.lines(t) {
			switch {
			case e.Operator != "":
				operators++
			case e.Kind == Denied:
				refused++
			case e.Kind == Session:
				sessions++
			}
		}
		if operators != 5 || refused != DefaultPerSecond/anonymousShare*burstSeconds || sessions < refused {
			t.Errorf("%d of operators, %d refusals, %d sessions", operators, refused, sessions)
		}
		if n, most := l.Burst(); n == 0 || n > most {
			t.Errorf("%d of %d are taken", n, most)
		}
		if n, most := l.Queued(); n != 0 || most != maxQueued {
			t.Errorf("%d of %d wait", n, most)
		}
	})
}
