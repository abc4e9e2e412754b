package guard_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/guard"
	"github.com/knockgw/knockgw/protocol"
)

// datagrams is a socket that receives the test's datagrams. Nothing must be
// sent on it.
type datagrams struct {
	net.PacketConn
	in     chan []byte
	closed chan struct{}
	once   sync.Once
	t      *testing.T
}

func (d *datagrams) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case datagram := <-d.in:
		return copy(b, datagram), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("203.0.113.2:4711")), nil
	case <-d.closed:
		return 0, nil, net.ErrClosed
	}
}

func (d *datagrams) WriteTo([]byte, net.Addr) (int, error) {
	d.t.Error("an answer to a datagram")
	return 0, os.ErrPermission
}

func (d *datagrams) LocalAddr() net.Addr             { return &net.UDPAddr{} }
func (d *datagrams) SetReadDeadline(time.Time) error { return nil }
func (d *datagrams) Close() error                    { d.once.Do(func() { close(d.closed) }); return nil }

// FuzzDatagram sends a guard datagrams of a host without a secret: none makes a
// grant, and none is answered.
func FuzzDatagram(f *testing.F) {
	mallory, err := protocol.NewClient("alice", []byte("not the secret that alice has"))
	if err != nil {
		f.Fatal(err)
	}
	knock, err := protocol.AppendKnock(nil, mallory, quiet, &protocol.KnockMessage{Method: protocol.MethodUDP, Time: time.Now().UnixMilli()}, nonces{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(knock)
	f.Add(make([]byte, protocol.KnockV2Size))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		socket := &datagrams{in: make(chan []byte), closed: make(chan struct{}), t: t}
		g, err := guard.New(guard.Options{
			Secrets: auth.NewSecrets(alice), Knocks: []net.PacketConn{socket},
			Services: []guard.Service{{Name: "quiet", Port: quiet, Mode: guard.ModeKnock}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		socket.in <- datagram
		socket.in <- datagram // by now the first has been judged
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s := g.Stats(); s.Grants != 0 || s.Flows != 0 {
			t.Fatalf("%x has made %+v", datagram, s)
		}
	})
}
