//go:build linux

package netns_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// replyLines makes a reply of 11 MB: it does not fit into all the buffers
	// on its way.
	replyLines = 300_000
	// shortIdle is the idle time of the endpoints below, and oneWay a
	// download's or upload's length in drips, which together last three times
	// as long.
	shortIdle = 2 * time.Second
	oneWay    = int(3 * shortIdle / lab.DripInterval)
)

func TestHalfClosedClientGetsReply(t *testing.T) {
	t.Parallel()
	l, site, _, all := site(t)
	site.Start(t)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			conn, err := d.enter(withTimeout(t, admitTime), alice(l.Client))
			if err != nil {
				t.Fatal(err)
			}
			defer closeConn(t, conn)
			if _, err := fmt.Fprintf(conn, "whole %d\n", replyLines); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(3 * answerTime)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("the reply broke off after %d bytes: %v", len(got), err)
			}
			if want := strings.Repeat(lab.ReplyLine, replyLines); string(got) != want {
				t.Errorf("the reply has %d bytes, want %d, and they are not the same", len(got), len(want))
			}
		})
	}
}

// idleSite is a lab whose endpoints end sessions that are idle for shortIdle.
func idleSite(t *testing.T) (*lab.Lab, *lab.LineServer, []endpoint) {
	t.Helper()
	l := lab.New(t)
	s := l.Upstream.ServeLines(netip.AddrPortFrom(l.Upstream.Addr4, 7000).String())
	all := endpoints(s.Addr)
	for i := range all {
		all[i].extra = []string{fmt.Sprintf("idle: %s", shortIdle)}
	}
	l.NewSite(t, program.get(t), configuration(all...)).Start(t)
	return l, s, all
}

func TestDownloadOutlastsIdleTimeout(t *testing.T) {
	t.Parallel()
	l, s, all := idleSite(t)
	t.Run("endpoints", func(t *testing.T) {
		for _, d := range all {
			t.Run(d.name, func(t *testing.T) {
				t.Parallel()
				conn, err := d.enter(withTimeout(t, admitTime), alice(l.Client))
				if err != nil {
					t.Fatal(err)
				}
				defer closeConn(t, conn)
				if _, err := fmt.Fprintf(conn, "drip %d\n", oneWay); err != nil {
					t.Fatal(err)
				}
				if err := conn.SetReadDeadline(time.Now().Add(3*shortIdle + answerTime)); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(conn)
				n := 0
				for n < oneWay && lines.Scan() && lines.Text() == s.Greeting {
					n++
				}
				if n < oneWay {
					t.Errorf("the download was cut after %d of %d lines: %v", n, oneWay, lines.Err())
				}
			})
		}
	})
}

func TestUploadOutlastsIdleTimeout(t *testing.T) {
	t.Parallel()
	l, _, all := idleSite(t)
	d := all[1]
	conn, err := d.enter(withTimeout(t, admitTime), alice(l.Client))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, conn)
	if _, err := fmt.Fprintln(conn, "whole 1"); err != nil {
		t.Fatal(err)
	}
	for i := range oneWay {
		time.Sleep(lab.DripInterval)
		if _, err := fmt.Fprintln(conn, "one more line"); err != nil {
			t.Fatalf("the upload was cut after %d of %d lines: %v", i, oneWay, err)
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != lab.ReplyLine {
		t.Errorf("after a long upload the upstream answered %q, %v", got, err)
	}
}

func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	l, s, all := idleSite(t)
	d := all[1]
	conn, err := d.enter(withTimeout(t, admitTime), alice(l.Client))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, conn)
	if got := ask(t, conn, "hello"); got != s.Greeting {
		t.Fatalf("the upstream answered %q", got)
	}
	began := time.Now()
	if err := conn.SetReadDeadline(began.Add(shortIdle + answerTime)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	took := time.Since(began)
	if err == nil || timedOut(err) || took < shortIdle*9/10 {
		t.Errorf("an idle session ended after %v with %v, want %v", took, err, shortIdle)
	}
}
