package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/knockgw/knockgw/internal/address"
)

// What an operator sees of the flows, grants, clients and bans of a running
// gateway, and what he may end of them.

const (
	// MaxList is how many entries a list has at the most: what a person or a script
	// reads at once. A list that has been cut says so.
	MaxList = 10_000
	// maxMeasure bounds the time over which rates are measured.
	maxMeasure = 10 * time.Second
)

// A Flow is one connection that was let in, or that is about to be.
type Flow struct {
	Client   string         `json:"client,omitempty"` // "" until that is known
	Source   netip.AddrPort `json:"source"`
	Service  string         `json:"service"`
	Target   netip.AddrPort `json:"target"` // what was dialled
	Upstream string         `json:"upstream,omitempty"`
	Age      float64        `json:"age_seconds"`
	Idle     float64        `json:"idle_seconds"`
	Received uint64         `json:"received_bytes"` // from the client
	Sent     uint64         `json:"sent_bytes"`     // to the client
	// ReceiveRate and SendRate are bytes a second while they were measured, if they
	// were.
	ReceiveRate float64 `json:"receive_bytes_per_second"`
	SendRate    float64 `json:"send_bytes_per_second"`
}

// Flows is a list of them, the newest first.
type Flows struct {
	Flows     []Flow `json:"flows"`
	Remaining int    `json:"remaining"` // that are not in the list
}

// A Grant is an open door.
type Grant struct {
	Client     string     `json:"client"`
	Service    string     `json:"service"`
	Source     netip.Addr `json:"source"`
	Port       uint16     `json:"port,omitempty"` // the only source port that it is for
	Left       float64    `json:"left_seconds"`   // negative: only handshakes that have begun go on
	Uses       int        `json:"uses"`           // left
	Handshakes int        `json:"handshakes"`     // under way on it
}

// Grants is a list of them.
type Grants struct {
	Grants []Grant `json:"grants"`
}

// A ClientState is one client of the configuration, and what became of it lately.
type ClientState struct {
	ID         string    `json:"client"`
	Services   []string  `json:"services,omitempty"` // absent: all
	Expires    time.Time `json:"expires,omitzero"`
	Flows      int       `json:"flows"`
	Grants     int       `json:"grants"`
	LastSeen   *Attempt  `json:"last_seen,omitempty"`   // the last knock or authentication that succeeded
	LastDenied *Attempt  `json:"last_denied,omitempty"` // the last that did not
}

// An Attempt is a knock or an authentication of a known client: its message
// opened, so it is nobody else's.
type Attempt struct {
	Time    time.Time  `json:"time"`
	Source  netip.Addr `json:"source"`
	Service string     `json:"service"`
	// Method is the method of the knock, or the format of the authentication.
	Method  string `json:"method"`
	Result  string `json:"result"`
	Message string `json:"message,omitempty"` // what Result means
	// ClockDifference is the client's clock less the gateway's, as the message
	// says; nil where it says no time, as a SYN, or is a replay.
	ClockDifference *float64 `json:"clock_difference_seconds,omitempty"`
	Repeats         int      `json:"repeats,omitempty"` // how often the same was refused before, in a row
}

// Clients is a list of them, in the order of the configuration.
type Clients struct {
	Clients   []ClientState `json:"clients"`
	Remaining int           `json:"remaining"`
}

// A Ban shuts a source out of the services that answer strangers.
type Ban struct {
	Source netip.Prefix `json:"source"`
	Left   float64      `json:"left_seconds"`
}

// Bans is a list of them.
type Bans struct {
	Bans []Ban `json:"bans"`
}

// A Revocation says what is to be ended: the grants and flows that fit every field
// that is set. All must be set if none is.
type Revocation struct {
	Client  string         `json:"client,omitempty"`
	Service string         `json:"service,omitempty"`
	Source  netip.Prefix   `json:"source,omitzero"`
	Flow    netip.AddrPort `json:"flow,omitzero"` // the client's end of one connection
	Grants  bool           `json:"grants,omitempty"`
	All     bool           `json:"all,omitempty"`
}

// Check says what is wrong with a Revocation.
func (r *Revocation) Check() error {
	one := r.Client != "" || r.Service != "" || r.Source.IsValid() || r.Flow.IsValid()
	switch {
	case !one && !r.All:
		return errors.New("say what is to be revoked: a client, a service, a source or a flow; or all")
	case one && r.All:
		return errors.New("all and something of it are both given: leave one out")
	case r.Flow.IsValid() && r.Grants:
		return errors.New("a flow has no grants")
	default:
		return nil
	}
}

// Revoked is what was ended.
type Revoked struct {
	Flows  int `json:"flows_ended"`
	Grants int `json:"grants_ended"`
}

// Operation is what a Gateway lets its operator see and end. Its methods are called
// concurrently; operator is who asked, in words for the audit.
type Operation interface {
	// Flows lists flows, and measures rates for the time given, 0 for not at all.
	Flows(ctx context.Context, measure time.Duration) Flows
	Grants() Grants
	Clients() Clients
	Bans() Bans
	// Revoke ends what is meant; r has been checked. With r.Grants set, grants alone.
	Revoke(r Revocation, operator string) (Revoked, error)
	// Unban ends the bans of a source, and says how many there were.
	Unban(source netip.Prefix, operator string) int
}

// operations are the requests about flows, grants, clients and bans.
func operations(g Operation) []route {
	return []route{
		{"GET /v1/flows", func(r *http.Request) (any, error) {
			measure, err := time.ParseDuration(orElse(r.URL.Query().Get("measure"), "0s"))
			if err != nil || measure < 0 || measure > maxMeasure {
				return nil, fmt.Errorf("measure: write a duration from 0s to %v", maxMeasure)
			}
			return g.Flows(r.Context(), measure), nil
		}},
		{"GET /v1/grants", func(*http.Request) (any, error) { return g.Grants(), nil }},
		{"GET /v1/clients", func(*http.Request) (any, error) { return g.Clients(), nil }},
		{"GET /v1/bans", func(*http.Request) (any, error) { return g.Bans(), nil }},
		{"POST /v1/revoke", func(r *http.Request) (any, error) {
			var what Revocation
			if err := readBody(r, &what); err != nil {
				return nil, fmt.Errorf("understand what is to be revoked: %w", err)
			}
			if err := what.Check(); err != nil {
				return nil, err
			}
			return g.Revoke(what, operatorOf(r.Context()))
		}},
		{"DELETE /v1/bans", func(r *http.Request) (any, error) {
			source, err := ParseSource(r.URL.Query().Get("source"))
			if err != nil {
				return nil, err
			}
			return Unbanned{g.Unban(source, operatorOf(r.Context()))}, nil
		}},
	}
}

// readBody reads the one object that a request's body is to be.
func readBody(r *http.Request, into any) error {
	in := json.NewDecoder(r.Body)
	in.DisallowUnknownFields()
	if err := in.Decode(into); err != nil {
		return err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the object: send one alone")
	}
	return nil
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// ParseSource reads an address, or a network in CIDR notation.
func ParseSource(text string) (netip.Prefix, error) {
	p, err := address.ParseSource(text)
	if err != nil {
		return p, fmt.Errorf("source: %w", err)
	}
	return p, nil
}

// Flows lists the flows; rates are measured for the time given, 0 for not at all.
func (c *Client) Flows(ctx context.Context, measure time.Duration) (*Flows, error) {
	return ask[Flows](ctx, c, http.MethodGet, "flows?measure="+measure.String(), nil)
}

// Grants lists the grants.
func (c *Client) Grants(ctx context.Context) (*Grants, error) {
	return ask[Grants](ctx, c, http.MethodGet, "grants", nil)
}

// Clients lists the clients.
func (c *Client) Clients(ctx context.Context) (*Clients, error) {
	return ask[Clients](ctx, c, http.MethodGet, "clients", nil)
}

// Bans lists the bans.
func (c *Client) Bans(ctx context.Context) (*Bans, error) {
	return ask[Bans](ctx, c, http.MethodGet, "bans", nil)
}

// Unban ends the bans of a source.
func (c *Client) Unban(ctx context.Context, source netip.Prefix) (*Unbanned, error) {
	return ask[Unbanned](ctx, c, http.MethodDelete, "bans?source="+url.QueryEscape(source.String()), nil)
}

// Revoke ends flows and grants.
func (c *Client) Revoke(ctx context.Context, what Revocation) (*Revoked, error) {
	if err := what.Check(); err != nil {
		return nil, err
	}
	return ask[Revoked](ctx, c, http.MethodPost, "revoke", what)
}

// Unbanned is what was ended of bans.
type Unbanned struct {
	Bans int `json:"bans_ended"`
}
