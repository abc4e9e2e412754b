//go:build linux

package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// Connections makes short connections for a time, one after the other from each
// of the sources: connect, a request, its reply, close.
type Connections struct {
	Target  netip.AddrPort
	Sources []netip.Addr
	For     time.Duration
	// Knock, if it is there, is done for each connection.
	Knock *Knock
}

// Knock is the client that knocks, with a v1 datagram.
type Knock struct {
	ID     string
	Secret []byte
	Port   uint16
}

// Made is how many connections there were.
type Made struct {
	Done   int
	Failed int
	Error  string // of one that failed
	Took   time.Duration
}

// Rate is connections a second.
func (m Made) Rate() float64 { return float64(m.Done) / m.Took.Seconds() }

// Run implements Task; the result is a Made.
func (c *Connections) Run(io.Writer) (any, error) {
	knocker, err := c.knocker()
	if err != nil {
		return nil, err
	}

	onThreads(len(c.Sources))
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		all     Made
	)

	began := time.Now()
	for _, from := range c.Sources {
		workers.Go(func() {
			made := c.make(from, knocker, began.Add(c.For))
			mu.Lock()
			defer mu.Unlock()
			all.Done += made.Done
			all.Failed += made.Failed
			if made.Error != "" {
				all.Error = made.Error
			}
		})
	}

	workers.Wait()
	all.Took = time.Since(began)
	return all, nil
}

func (c *Connections) knocker() (*client.Dialer, error) {
	if c.Knock == nil {
		return nil, nil
	}
	id, err := protocol.NewClient(c.Knock.ID, c.Knock.Secret)
	if err != nil {
		return nil, err
	}
	return &client.Dialer{Identity: id, NoAuth: true, KnockPort: c.Knock.Port}, nil
}

// make makes connections from one source.
func (c *Connections) make(from netip.Addr, knocker *client.Dialer, end time.Time) (m Made) {
	if knocker != nil {
		own := *knocker
		own.Net.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		knocker = &own
	}
	request := make([]byte, RequestSize)
	for time.Now().Before(end) {
		if err := c.one(from, knocker, request); err != nil {
			m.Failed++
			m.Error = err.Error()
			continue
		}
		m.Done++
	}
	return m
}

func (c *Connections) one(from netip.Addr, knocker *client.Dialer, request []byte) error {
	if knocker != nil {
		if err := knocker.Knock(context.Background(), c.Target, nil); err != nil {
			return fmt.Errorf("knock: %w", err)
		}
	}
	s, err := dial(from, c.Target)
	if err != nil {
		return err
	}
	if err := s.ask(request); err != nil {
		_ = s.close()
		return err
	}
	return s.close()
}
