package config

import (
	"net"
	"strconv"
)

// Row is what one service looks like to whoever checks a configuration.
type Row struct {
	Service  string   `json:"service"`
	Listen   string   `json:"listen"`
	Mode     Mode     `json:"mode"`
	Visible  bool     `json:"visible"`
	Knock    []string `json:"knock"`    // the methods that it takes
	Auth     []string `json:"auth"`     // the formats that it takes
	Clients  []string `json:"clients"`  // ids
	Upstream string   `json:"upstream"` // empty: the embedding program
}

// Table is a row for every service, in the file's order.
func (c *Config) Table() []Row {
	rows := make([]Row, len(c.Services))
	for i := range c.Services {
		svc := &c.Services[i]
		row := Row{
			Service: svc.Name,
			Listen:  net.JoinHostPort(addressOrPrefix(svc.Listen), strconv.Itoa(int(svc.Port))),
			Mode:    svc.Mode,
			// A service that strangers can connect to is visible, whatever makes it so.
			Visible:  svc.Visible || svc.Mode == ModeAuth,
			Knock:    []string{},
			Auth:     []string{},
			Clients:  c.ClientsOf(svc.Name),
			Upstream: svc.Upstream.String(),
		}
		for _, m := range svc.Knock {
			row.Knock = append(row.Knock, string(m))
		}
		if svc.Mode.Authenticates() {
			for _, a := range svc.Auth.Protocols {
				row.Auth = append(row.Auth, string(a))
			}
		}
		if svc.UpstreamDevice != "" {
			row.Upstream += " via " + svc.UpstreamDevice
		}
		rows[i] = row
	}
	return rows
}

// ClientsOf is the ids of the clients that may use a service, in the file's order.
func (c *Config) ClientsOf(service string) []string {
	ids := []string{}
	for i := range c.Clients {
		if c.Clients[i].May(service) {
			ids = append(ids, c.Clients[i].ID)
		}
	}
	return ids
}
