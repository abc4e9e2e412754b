package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// maxAnswer bounds what a client takes for an answer, in bytes.
const maxAnswer = 16 << 20

// A Client asks the gateway at a socket.
type Client struct {
	Socket string // its path
}

// Status asks how the gateway is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return ask[Status](ctx, c, http.MethodGet, "status")
}

// Reload has the gateway load its configuration anew and put it in force. A
// *RefusedError says why it would not.
func (c *Client) Reload(ctx context.Context) (*Result, error) {
	return ask[Result](ctx, c, http.MethodPost, "reload")
}

// Check asks what Reload would do.
func (c *Client) Check(ctx context.Context) (*Result, error) {
	return ask[Result](ctx, c, http.MethodPost, "check")
}

// ask sends one request over a connection of its own. Errors: ErrNotRunning,
// ErrUnavailable, fs.ErrPermission, a *RefusedError, or what the system said.
func ask[T any](ctx context.Context, c *Client, method, what string) (*T, error) {
	if c.Socket == "" {
		return nil, errors.New("the configuration has no control.socket, by which a running gateway is asked; set it and restart the gateway")
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		},
	}
	// The host is the socket's; a URL needs a name.
	req, err := http.NewRequestWithContext(ctx, method, "http://knockgw/v1/"+what, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	switch {
	case nobodyListens(err):
		return nil, fmt.Errorf("%w at %s", ErrNotRunning, c.Socket)
	case err != nil:
		return nil, fmt.Errorf("ask the gateway at %s: %w", c.Socket, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, body)
	}
	answer := new(T)
	if err := body.Decode(answer); err != nil {
		return nil, fmt.Errorf("understand the gateway at %s: %w", c.Socket, err)
	}
	return answer, nil
}

// refusal makes an error of an answer that is none.
func refusal(resp *http.Response, body *json.Decoder) error {
	var p Problems
	if err := body.Decode(&p); err != nil || len(p.Problems) == 0 {
		return fmt.Errorf("the gateway does not understand (%s); is it of another version?", resp.Status)
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
