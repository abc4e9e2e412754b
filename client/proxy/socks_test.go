package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	socks "golang.org/x/net/proxy"
)

func TestSOCKSReplyCodes(t *testing.T) {
	r := start(t, services{
		"refused:1": &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "late:1": context.DeadlineExceeded,
		"away:1": &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, "odd:1": errors.New("odd"),
	})
	for text, code := range map[string]byte{
		"\x05\x01\x00\x03\x07refused\x00\x01":      connectionRefused,
		"\x05\x01\x00\x03\x04late\x00\x01":         hostUnreachable,
		"\x05\x01\x00\x03\x04away\x00\x01":         networkUnreachable,
		"\x05\x01\x00\x03\x03odd\x00\x01":          generalFailure,
		"\x05\x01\x00\x03\x02no\x00\x01":           notAllowed,
		"\x05\x01\x00\x03\x02a\n\x00\x01":          notAllowed,
		"\x05\x01\x00\x03\x00\x00\x01":             notAllowed,
		"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x16": notAllowed,
		"\x05\x02\x00\x03\x02no\x00\x01":           commandNotSupported,
		"\x05\x01\x00\x07":                         addressTypeUnknown,
		"\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x16": generalFailure,
	} {
		c := r.connect(t)
		if _, err := io.WriteString(c, "\x05\x01\x00"+text); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if string(got) != "\x05\x00\x05"+string(code)+"\x00\x01\x00\x00\x00\x00\x00\x00" {
			t.Errorf("%q: %x", text, got)
		}
	}
}

func TestSOCKSPasswordRefused(t *testing.T) {
	r := start(t, services{})
	for text, want := range map[string]string{
		"\x05\x01\x02":                           "\x05\xff",
		"\x05\x00":                               "\x05\xff",
		"\x04\x01\x00\x16\x7f\x00\x00\x01me\x00": "\x00\x5b\x00\x00\x00\x00\x00\x00",
	} {
		c := r.connect(t)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if got := make([]byte, len(want)); true {
			if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Errorf("%q: %x, %v", text, got, err)
			}
		}
		if e := r.waitResult(t, SOCKS5, ""); e.Err == nil {
			t.Errorf("%+v", e)
		}
	}
}

func TestSOCKSThirdPartyClient(t *testing.T) {
	r := start(t, services{"echo:7": echoServer(t), "[fd77::7]:7": echoServer(t)})
	d, err := socks.SOCKS5("tcp", r.addr, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"echo:7", "Echo:7", "[fd77:0:0::7]:7"} {
		c, err := d.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.WriteString(c, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		_ = c.Close()
	}
}
