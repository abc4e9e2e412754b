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

const (
	// MaxList is the maximum length of a list. Lists have the number of entries
	// that are missing.
	MaxList = 10_000
	// maxMeasure limits the time over which rates are measured.
	maxMeasure = 10 * time.Second
)

// A Flow is an admitted connection, or one that is being admitted.
type Flow struct {
	Client   string         `json:"client,omitempty"` // "" if not known yet
	Source   netip.AddrPort `json:"source"`
	Service  string         `json:"service"`
	Target   netip.AddrPort `json:"target"` // the address that the client dialled
	Upstream string         `json:"upstream,omitempty"`
	Age      float64        `json:"age_seconds"`
	Idle     float64        `json:"idle_seconds"`
	Received uint64         `json:"received_bytes"` // from the client
	Sent     uint64         `json:"sent_bytes"`     // to the client
	// ReceiveRate and SendRate are in bytes per second, if they were measured.
	ReceiveRate float64 `json:"receive_bytes_per_second"`
	SendRate    float64 `json:"send_bytes_per_second"`
}

// Flows is a list of flows, newest first.
type Flows struct {
	Flows     []Flow `json:"flows"`
	Remaining int    `json:"remaining"` // missing in the list
}

// A Grant permits connections from a source to a service.
type Grant struct {
	Client     string     `json:"client"`
	Service    string     `json:"service"`
	Source     netip.Addr `json:"source"`
	Port       uint16     `json:"port,omitempty"` // if it is bound to a source port
	Left       float64    `json:"left_seconds"`   // negative: only pending handshakes may complete
	Uses       int        `json:"uses"`           // remaining
	Handshakes int        `json:"handshakes"`     // pending on it
}

// Grants is a list of grants.
type Grants struct {
	Grants []Grant `json:"grants"`
}

// A ClientState is the state of a client of the configuration.
type ClientState struct {
	ID         string    `json:"client"`
	Services   []string  `json:"services,omitempty"` // nil means all
	Expires    time.Time `json:"expires,omitzero"`
	Flows      int       `json:"flows"`
	Grants     int       `json:"grants"`
	LastSeen   *Attempt  `json:"last_seen,omitempty"`   // last successful knock or authentication
	LastDenied *Attempt  `json:"last_denied,omitempty"` // last failed one
}

// An Attempt is a knock or an authentication of a known client: its message was
// decrypted, so it comes from the client.
type Attempt struct {
	Time    time.Time  `json:"time"`
	Source  netip.Addr `json:"source"`
	Service string     `json:"service"`
	// Method is the method of the knock, or the format of the authentication.
	Method  string `json:"method"`
	Result  string `json:"result"`
	Message string `json:"message,omitempty"` // explains Result
	// ClockDifference is the client's clock minus the gateway's, according to
	// the message; nil for replays, and for messages without a time, such as a
	// SYN.
	ClockDifference *float64 `json:"clock_difference_seconds,omitempty"`
	Repeats         int      `json:"repeats,omitempty"` // number of equal failures directly before
}

// Clients is a list of clients, in the order of the configuration.
type Clients struct {
	Clients   []ClientState `json:"clients"`
	Remaining int           `json:"remaining"`
}

// A Ban excludes a source from services with unauthenticated handshakes.
type Ban struct {
	Source netip.Prefix `json:"source"`
	Left   float64      `json:"left_seconds"`
}

// Bans is a list of bans.
type Bans struct {
	Bans []Ban `json:"bans"`
}

// A Revocation selects grants and flows to end: those that match every field
// that is set. All must be set if no other field is.
type Revocation struct {
	Client  string         `json:"client,omitempty"`
	Service string         `json:"service,omitempty"`
	Source  netip.Prefix   `json:"source,omitzero"`
	Flow    netip.AddrPort `json:"flow,omitzero"` // source of one connection
	Grants  bool           `json:"grants,omitempty"`
	All     bool           `json:"all,omitempty"`
}

// Check returns an error for an invalid Revocation.
func (r *Revocation) Check() error {
	one := r.Client != "" || r.Service != "" || r.Source.IsValid() || r.Flow.IsValid()
	switch {
	case !one && !r.All:
		return errors.New("select what to revoke: a client, a service, a source or a flow; or all")
	case one && r.All:
		return errors.New("all excludes other selections")
	case r.Flow.IsValid() && r.Grants:
		return errors.New("a flow has no grants")
	default:
		return nil
	}
}

// Revoked counts what was ended.
type Revoked struct {
	Flows  int `json:"flows_ended"`
	Grants int `json:"grants_ended"`
}

// Operator is the part of a Gateway that lists and ends flows, grants, clients
// and bans. Its methods are called concurrently; operator describes the caller
// for the audit.
type Operator interface {
	// Flows lists flows, and measures rates over the given time unless it is 0.
	Flows(ctx context.Context, measure time.Duration) Flows
	Grants() Grants
	Clients() Clients
	Bans() Bans
	// Revoke ends what r selects, after r.Check; only grants if r.Grants is set.
	Revoke(r Revocation, operator string) (Revoked, error)
	// Unban removes the bans of a source, and returns how many there were.
	Unban(source netip.Prefix, operator string) int
}

// operatorRoutes returns the routes for an Operator.
func operatorRoutes(g Operator) []route {
	return []route{
		{"GET /v1/flows", func(r *http.Request) (any, error) {
			measure, err := time.ParseDuration(orDefault(r.URL.Query().Get("measure"), "0s"))
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
				return nil, fmt.Errorf("parse the revocation: %w", err)
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

// readBody reads a request body of exactly one object.
func readBody(r *http.Request, into any) error {
	in := json.NewDecoder(r.Body)
	in.DisallowUnknownFields()
	if err := in.Decode(into); err != nil {
		return err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the object")
	}
	return nil
}

// orDefault returns text, or def if it is empty.
func orDefault(text, def string) string {
	if text == "" {
		return def
	}
	return text
}

// ParseSource parses an address, or a network in CIDR notation.
func ParseSource(text string) (netip.Prefix, error) {
	p, err := address.ParseSource(text)
	if err != nil {
		return p, fmt.Errorf("source: %w", err)
	}
	return p, nil
}

// Flows lists the flows, with rates measured over the given time unless it is 0.
func (c *Client) Flows(ctx context.Context, measure time.Duration) (*Flows, error) {
	return request[Flows](ctx, c, http.MethodGet, "flows?measure="+measure.String(), nil)
}

// Grants lists the grants.
func (c *Client) Grants(ctx context.Context) (*Grants, error) {
	return request[Grants](ctx, c, http.MethodGet, "grants", nil)
}

// Clients lists the clients.
func (c *Client) Clients(ctx context.Context) (*Clients, error) {
	return request[Clients](ctx, c, http.MethodGet, "clients", nil)
}

// Bans lists the bans.
func (c *Client) Bans(ctx context.Context) (*Bans, error) {
	return request[Bans](ctx, c, http.MethodGet, "bans", nil)
}

// Unban removes the bans of a source.
func (c *Client) Unban(ctx context.Context, source netip.Prefix) (*Unbanned, error) {
	return request[Unbanned](ctx, c, http.MethodDelete, "bans?source="+url.QueryEscape(source.String()), nil)
}

// Revoke ends flows and grants.
func (c *Client) Revoke(ctx context.Context, what Revocation) (*Revoked, error) {
	if err := what.Check(); err != nil {
		return nil, err
	}
	return request[Revoked](ctx, c, http.MethodPost, "revoke", what)
}

// Unbanned counts removed bans.
type Unbanned struct {
	Bans int `json:"bans_ended"`
}
