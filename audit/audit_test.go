package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	fail   error
	closed bool
}

func (s *sink) Write(b []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Buffer.Write(b)
}

func (s *sink) Close() error {
	s.closed = true
	return nil
}

// lines is what was written.
func (s *sink) lines(t *testing.T) (events []Event) {
	t.Helper()
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

func TestEveryEventIsOneLineOfJSON(t *testing.T) {
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
		if strings.Contains(s.String(), "left_out") || strings.Contains(strings.SplitN(s.String(), "\n", 2)[0], "seconds") {
			t.Errorf("empty fields are written: %s", s.String())
		}
	})
}

func TestWhatStrangersHadAHandInIsEscapedAndCut(t *testing.T) {
	const client = "a\x1b[2J\nb\x00\x7f\u009b2J\u202e\U000e0001ü"
	synctest.Test(t, func(t *testing.T) {
		var s sink
		if _, err := after(t, &s, Options{}, func(l *Log) {
			l.Add(Event{Kind: Refused, Client: client, Reason: strings.Repeat("x", 1<<16)})
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

func TestTooManyEventsAreLeftOutAndCountedInTheNextLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		const most = 3
		l, err := after(t, &s, Options{PerSecond: most}, func(l *Log) {
			for range most*burst + 5 {
				l.Add(Event{Kind: Knock})
			}
			time.Sleep(time.Second)
			l.Add(Event{Kind: Ban})
		})
		if err != nil {
			t.Fatal(err)
		}
		got := s.lines(t)
		if len(got) != most*burst+1 || l.Lost() != 5 {
			t.Fatalf("%d lines, %d lost", len(got), l.Lost())
		}
		if got[0].LeftOut != 5 { // it was written after they were left out
			t.Errorf("the first line says that %d are missing", got[0].LeftOut)
		}
	})
}

func TestAFullDiskIsSaidOnceAndRecordingGoesOn(t *testing.T) {
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
		if got := s.lines(t); len(got) != 1 || got[0].LeftOut != 2 || l.Lost() != 2 {
			t.Errorf("%s, %d lost", s.String(), l.Lost())
		}
	})
}

func TestNoLogIsALogThatTakesNothing(t *testing.T) {
	var l *Log
	l.Add(Event{Kind: Knock})
	if l.Lost() != 0 {
		t.Error("it lost something")
	}
}

func TestAFileIsSetAsideWhenItIsFullAndTheOldestGoes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	f, err := OpenFile(FileOptions{Path: path, MaxBytes: 10, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"1111\n", "2222\n", "3333\n", "4444\n", "5555\n", "6666\n", "7777\n", "a line longer than a file\n", "9\n"} {
		if _, err := f.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"audit.log": "9\n", "audit.log.1": "a line longer than a file\n", "audit.log.2": "7777\n",
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s is open to everybody: %v", name, info.Mode())
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 3 {
		t.Errorf("%d files", len(files))
	}
}

func TestAFileIsGoneOnWithAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for range 2 {
		f, err := OpenFile(FileOptions{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(path); string(got) != "x\nx\n" {
		t.Errorf("%q", got)
	}
}

func TestAFileThatCannotBeSetAsideGrowsNoFurther(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	f, err := OpenFile(FileOptions{Path: path, MaxBytes: 4, Keep: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("xxx\n")); err != nil {
		t.Fatal(err)
	}
	block := filepath.Join(dir, "audit.log.1", "in the way")
	if err := os.MkdirAll(block, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := f.Write([]byte("yyy\n")); err == nil {
			t.Error("written, beyond the bound")
		}
	}
	if err := os.RemoveAll(filepath.Dir(block)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("zzz\n")); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "zzz\n" {
		t.Errorf("%q", got)
	}
}
