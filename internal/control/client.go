package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"syscall"
)

// maxAnswer bounds what a client takes for an answer, in bytes.
const maxAnswer = 16 << 20

// A Client asks the gateway at a socket.
type Client struct {
	Socket string // its path
	// Working, if not nil, is called whenever the gateway says that it is still working on
	// what it was asked.
	Working func()
}

// Status asks how the gateway is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return ask[Status](ctx, c, http.MethodGet, "status", nil)
}

// Reload has the gateway load its configuration anew and put it in force. A
// *RefusedError says why it would not.
func (c *Client) Reload(ctx context.Context) (*Result, error) {
	return ask[Result](ctx, c, http.MethodPost, "reload", nil)
}

// Check asks what Reload would do.
func (c *Client) Check(ctx context.Context) (*Result, error) {
	return ask[Result](ctx, c, http.MethodPost, "check", nil)
}

// ask sends one request, with a body as JSON unless that is nil, over a connection
// of its own. Errors: ErrNotRunning, ErrUnavailable, fs.ErrPermission, a
// *RefusedError, or what the system said.
func ask[T any](ctx context.Context, c *Client, method, what string, body any) (*T, error) {
	resp, err := c.send(ctx, method, what, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	answer := new(T)
	if err := c.understand(resp.Body, answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// send sends one request and returns the answer to it, whose body the caller
// closes, if the gateway does what it is asked.
func (c *Client) send(ctx context.Context, method, what string, body any) (*http.Response, error) {
	if c.Socket == "" {
		return nil, errors.New("the configuration has no control.socket, by which a running gateway is asked; set it and restart the gateway, or name its socket with --socket")
	}
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	var connected atomic.Bool
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", c.Socket)
			connected.Store(err == nil)
			return conn, err
		},
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
		if c.Working != nil {
			c.Working()
		}
		return nil
	}})
	// The host is the socket's; a URL needs a name.
	req, err := http.NewRequestWithContext(ctx, method, "http://knockgw/v1/"+what, in)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	switch {
	case nobodyListens(err):
		return nil, fmt.Errorf("%w at %s", ErrNotRunning, c.Socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the gateway's socket %s is not yours to use: be root, or a member of the socket's group, "+
			"which may enter its directory (%w)", c.Socket, fs.ErrPermission)
	case err != nil && connected.Load() && ctx.Err() == nil:
		return nil, fmt.Errorf("the gateway at %s has closed the connection without an answer: %d are open already, or it is ending; try again (%w)",
			c.Socket, MaxConnections, err)
	case err != nil:
		return nil, fmt.Errorf("ask the gateway at %s: %w", c.Socket, err)
	case resp.StatusCode != http.StatusOK:
		defer resp.Body.Close() //nolint:errcheck // only read
		return nil, c.refusal(resp)
	}
	return resp, nil
}

// refusal makes an error of an answer that is none.
func (c *Client) refusal(resp *http.Response) error {
	var p Problems
	if err := c.understand(resp.Body, &p); err != nil || len(p.Problems) == 0 {
		return fmt.Errorf("the gateway does not understand (HTTP %d); is it of another version?", resp.StatusCode)
	}
	switch resp.StatusCode {
	case http.StatusUnprocessableEntity:
		return &RefusedError{p.Problems}
	case http.StatusServiceUnavailable:
		return ErrUnavailable
	case http.StatusForbidden:
		return fmt.Errorf("the gateway says: %s: %w", strings.Join(p.Problems, "; "), fs.ErrPermission)
	default:
		return fmt.Errorf("the gateway says: %s", strings.Join(p.Problems, "; "))
	}
}

// nobodyListens tells whether a dial failed because there is nobody at the socket.
func nobodyListens(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}
