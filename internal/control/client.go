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

// maxResponse limits a response, in bytes.
const maxResponse = 16 << 20

// A Client sends requests to the gateway at a socket.
type Client struct {
	Socket string // path
	// Working, if not nil, is called whenever the gateway reports that it is
	// still working on a request.
	Working func()
}

// Status returns the status of the gateway.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return request[Status](ctx, c, http.MethodGet, "status", nil)
}

// Reload makes the gateway load its configuration again and apply it. A
// *RefusedError has the reasons if it rejects the configuration.
func (c *Client) Reload(ctx context.Context) (*Result, error) {
	return request[Result](ctx, c, http.MethodPost, "reload", nil)
}

// Check returns what Reload would do.
func (c *Client) Check(ctx context.Context) (*Result, error) {
	return request[Result](ctx, c, http.MethodPost, "check", nil)
}

// request sends a request, with a body as JSON unless that is nil, over its own
// connection. Errors: ErrNotRunning, ErrUnavailable, fs.ErrPermission, a
// *RefusedError, or that of the system.
func request[T any](ctx context.Context, c *Client, method, what string, body any) (*T, error) {
	resp, err := c.send(ctx, method, what, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	response := new(T)
	if err := c.decode(resp.Body, response); err != nil {
		return nil, err
	}
	return response, nil
}

// send sends a request and returns the response with status 200. The caller
// closes its body.
func (c *Client) send(ctx context.Context, method, what string, body any) (*http.Response, error) {
	if c.Socket == "" {
		return nil, errors.New("the configuration has no control.socket for requests to a running gateway; " +
			"set it and restart the gateway, or name its socket with --socket")
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
	// The socket determines the host; a URL needs a name.
	req, err := http.NewRequestWithContext(ctx, method, "http://knockgw/v1/"+what, in)
	if err != nil {
		return nil, err
	}

	resp, err := (&http.Client{Transport: transport}).Do(req)
	switch {
	case isNotRunning(err):
		return nil, fmt.Errorf("%w at %s", ErrNotRunning, c.Socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("access to the gateway's socket %s is denied: become root or a member of the socket's group, "+
			"which needs access to its directory (%w)", c.Socket, fs.ErrPermission)
	case err != nil && connected.Load() && ctx.Err() == nil:
		return nil, fmt.Errorf("the gateway at %s closed the connection without a response: "+
			"it has %d connections already, or is stopping; try again (%w)",
			c.Socket, MaxConnections, err)
	case err != nil:
		return nil, fmt.Errorf("send a request to the gateway at %s: %w", c.Socket, err)
	case resp.StatusCode != http.StatusOK:
		defer resp.Body.Close() //nolint:errcheck // only read
		return nil, c.refusal(resp)
	}
	return resp, nil
}

// refusal returns the error for a response other than 200.
func (c *Client) refusal(resp *http.Response) error {
	var p Problems
	if err := c.decode(resp.Body, &p); err != nil || len(p.Problems) == 0 {
		return fmt.Errorf("the gateway does not know the request (HTTP %d); compare its version (knockgw status)", resp.StatusCode)
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

// isNotRunning reports whether a dial failed because no process listens at the
// socket.
func isNotRunning(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}
