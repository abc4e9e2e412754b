package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/errlist"
	"github.com/knockgw/knockgw/internal/termsafe"
)

func clientListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the clients of a gateway",
		Long: "Lists the clients of the configuration and of clients_dir, without their secrets. Files\n" +
			"in clients_dir that are invalid are reported on standard error, and the exit code is 1;\n" +
			"the others are listed.",
		Args: exactArgs(0),
	}
	path := configFlag(cmd)
	output := outputFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, bad := config.LoadLenient(*path)
		if c == nil {
			return bad
		}
		list := clientListResult{Clients: clientRows(c), Invalid: invalidFiles(bad)}
		if err := printResult(cmd, *output, list, func(w io.Writer) error { return printClients(w, list.Clients) }); err != nil {
			return err
		}
		if bad == nil {
			return nil
		}
		report(cmd.ErrOrStderr(), bad)
		return &reportedError{errors.New("there are invalid client files")}
	}
	return cmd
}

// clientListResult is the result of client list.
type clientListResult struct {
	Clients []clientRow     `json:"clients"`
	Invalid []invalidClient `json:"invalid"`
}

// invalidClient is an error in a file of clients_dir. With it, no gateway
// starts or reloads.
type invalidClient struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0: the file as a whole
	Key     string `json:"key"`
	Problem string `json:"problem"`
}

// invalidFiles returns the errors of files that are joined in an error of
// package config.
func invalidFiles(err error) []invalidClient {
	all := []invalidClient{}
	for _, e := range errlist.Errors(err) {
		if invalid := (*config.Error)(nil); errors.As(e, &invalid) {
			all = append(all, invalidClient{invalid.File, invalid.Line, invalid.Key, invalid.Msg})
		}
	}
	return all
}

// clientRow describes a client, without its secrets.
type clientRow struct {
	ID       string      `json:"id"`
	Services []string    `json:"services"` // names of all that it may use
	All      bool        `json:"all"`      // no list in the file: services added later too
	Secrets  []secretRow `json:"secrets"`
	Expires  *time.Time  `json:"expires,omitempty"`
	File     string      `json:"file"`
	Line     int         `json:"line"`
}

// secretRow describes a secret, without the secret itself.
type secretRow struct {
	Until *time.Time `json:"until,omitempty"`
}

// clientRows returns the rows for all clients.
func clientRows(c *config.Config) []clientRow {
	rows := make([]clientRow, 0, len(c.Clients))
	for i := range c.Clients {
		client := &c.Clients[i]
		place, _ := c.Position(client.ID)
		row := clientRow{
			ID: client.ID, Services: []string{}, Expires: optionalTime(client.Expires),
			File: place.File, Line: place.Line, Secrets: []secretRow{}, All: client.Services == nil,
		}
		for _, name := range serviceNames(c) {
			if client.MayUse(name) {
				row.Services = append(row.Services, name)
			}
		}
		for _, s := range client.Secrets {
			row.Secrets = append(row.Secrets, secretRow{optionalTime(s.Until)})
		}
		rows = append(rows, row)
	}
	return rows
}

// optionalTime returns t in UTC, nil for the zero time.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// printClients prints the clients as a table.
func printClients(w io.Writer, rows []clientRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLIENT\tSERVICES\tSECRETS\tEXPIRES\tFILE")
	for _, r := range rows {
		services := joinLimited(r.Services)
		if r.All {
			services = "all"
		}
		secrets := make([]string, len(r.Secrets))
		for i, s := range r.Secrets {
			secrets[i] = "no end"
			if s.Until != nil {
				secrets[i] = "until " + s.Until.Format(time.RFC3339)
			}
		}
		expires := "never"
		if r.Expires != nil {
			expires = r.Expires.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%d (%s)\t%s\t%s:%d\n", termsafe.Name(r.ID), services, len(secrets),
			strings.Join(secrets, ", "), expires, r.File, r.Line)
	}
	return t.Flush()
}
