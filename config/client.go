package config

import (
	"fmt"
	"slices"
	"time"
)

// Client is a client that may use services.
type Client struct {
	ID        string
	Secrets   []ClientSecret // in the file's order; at least one, without duplicates
	Services  []string       // names; nil means all
	Expires   time.Time      // the client is unknown from then on; zero: never
	Hours     *Hours         // when the client may start connections; nil: always
	MaxGrants int            // at a time; 0: Limits.GrantsPerClient
	MaxFlows  int            // at a time; 0: Limits.FlowsPerClient
	Profile   ClientProfile  // options of the client's last profile; no effect on the gateway
}

// ClientProfile has the options of a client's profile, for making the next one
// with the same options.
type ClientProfile struct {
	Name   string // of the profile on the client; "" means the gateway's name
	Method string // the knock method, of package protocol; "" means the service's
}

// Position is the position of a client in the configuration.
type Position struct {
	File string // the configuration, or a file in its ClientsDir
	Line int
}

// String returns file:line.
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Position returns the position of the client with the given id, if there is
// one.
func (c *Config) Position(client string) (Position, bool) {
	p, ok := c.positions[client]
	return p, ok
}

// ClientSecret is one of a client's secrets. A client has several during a
// rotation.
type ClientSecret struct {
	Secret Secret
	Until  time.Time // invalid from then on; zero: never
}

// MayUse reports whether the client may use the service with the given name.
func (c *Client) MayUse(service string) bool {
	return c.Services == nil || slices.Contains(c.Services, service)
}
