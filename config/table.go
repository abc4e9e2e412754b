package config

import (
	"net"
	"strconv"
)

// Row summarizes a service, for checking a configuration.
type Row struct {
	Service string   `json:"service"`
	Listen  string   `json:"listen"`
	Mode    Mode     `json:"mode"`
	Visible bool     `json:"visible"`
	Knock   []string `json:"knock"`   // accepted methods
	Auth    []string `json:"auth"`    // accepted formats
	Clients []string `json:"clients"` // ids, at most MaxRowClients
	// NumClients is the number of clients.
	NumClients int    `json:"client_count"`
	Upstream   string `json:"upstream"` // empty: the embedding program
}

// Table returns a row for every service, in the file's order.
func (c *Config) Table() []Row {
	rows := make([]Row, len(c.Services))
	clients := c.serviceClients()
	for i := range c.Services {
		svc := &c.Services[i]
		row := Row{
			Service: svc.Name,
			Listen:  net.JoinHostPort(addressOrPrefix(svc.Listen), strconv.Itoa(int(svc.Port))),
			Mode:    svc.Mode,
			// A service that any host can connect to is visible, for whatever
			// reason.
			Visible:  svc.Visible || svc.Mode == ModeAuth,
			Knock:    []string{},
			Auth:     []string{},
			Clients:  clients.ids(svc.Name),
			Upstream: svc.Upstream.String(),
		}

		row.NumClients = clients.count(svc.Name)
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

// MaxRowClients limits the clients that a Row lists: thousands of services with
// thousands of clients each would be millions of names.
const MaxRowClients = 1000

// serviceClients indexes the clients by the services that they may use. It is
// built once for all services: in time and memory for the clients, the services
// and the names in the clients, not for each pair of client and service.
type serviceClients struct {
	clients   []Client
	all       []int            // indexes of the clients that may use all services
	byService map[string][]int // of those that name a service, by its name
	allIDs    []string         // the ids of all; shared by the services that no client names
}

func (c *Config) serviceClients() *serviceClients {
	u := &serviceClients{clients: c.Clients, byService: map[string][]int{}, allIDs: []string{}}
	for i := range c.Clients {
		if c.Clients[i].Services == nil {
			u.all = append(u.all, i)
			u.allIDs = append(u.allIDs, c.Clients[i].ID)
			continue
		}
		for _, name := range c.Clients[i].Services {
			u.byService[name] = append(u.byService[name], i)
		}
	}
	return u
}

// ids returns the ids of the clients that may use a service, in the file's
// order, at most MaxRowClients. The caller must not modify it.
func (u *serviceClients) ids(service string) []string {
	named, all := u.byService[service], u.all
	if len(named) == 0 {
		return u.allIDs[:min(len(u.allIDs), MaxRowClients)]
	}
	var ids []string
	for len(ids) < MaxRowClients && len(named)+len(all) > 0 {
		next := &named
		if len(named) == 0 || len(all) > 0 && all[0] < named[0] {
			next = &all
		}
		ids = append(ids, u.clients[(*next)[0]].ID)
		*next = (*next)[1:]
	}
	return ids
}

// count returns how many clients may use a service.
func (u *serviceClients) count(service string) int { return len(u.all) + len(u.byService[service]) }
