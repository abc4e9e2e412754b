package config

import (
	"fmt"
	"slices"
	"time"
)

// Client is one who may knock.
type Client struct {
	ID        string
	Secrets   []ClientSecret // in the file's order, at least one, all different
	Services  []string       // names; nil for all
	Expires   time.Time      // from then on the client is a stranger; zero: never
	Hours     *Hours         // when the client may begin; nil: always
	MaxGrants int            // at once; 0: Limits.GrantsPerClient
	MaxFlows  int            // at once; 0: Limits.FlowsPerClient
	Profile   ClientProfile  // how the client's profile was made; of no effect on the gateway
}

// ClientProfile is what the next profile of a client is made with, as the last one was.
type ClientProfile struct {
	Name   string // of the profile on the client; "": what the gateway is called
	Method string // how to knock, of package protocol; "": what the service takes
}

// Position is where a client stands.
type Position struct {
	File string // the configuration's, or one in its ClientsDir
	Line int
}

// String is file:line.
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Position is where the client of that id stands, if there is one.
func (c *Config) Position(client string) (Position, bool) {
	p, ok := c.positions[client]
	return p, ok
}

// ClientSecret is one of a client's secrets: it has several while they are being changed.
type ClientSecret struct {
	Secret Secret
	Until  time.Time // from then on it opens nothing; zero: it has no end
}

// MayUse reports whether the client may use the service of that name.
func (c *Client) MayUse(service string) bool {
	return c.Services == nil || slices.Contains(c.Services, service)
}
