package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/internal/errlist"
	"github.com/knockgw/knockgw/internal/termsafe"
	"github.com/knockgw/knockgw/protocol"
)

func clientCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Add, list, change and remove the clients of a gateway",
		Long: "The clients that these commands make are files in the directory that the configuration names with\n" +
			"clients_dir, one for each. The running gateway takes a change up at once where the configuration has\n" +
			"a control.socket; otherwise it is to be told, with SIGHUP.",
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(clientAddCommand(), clientListCommand(), clientShowCommand(), clientSetCommand(),
		clientRotateCommand(), clientRemoveCommand())
	return cmd
}

func clientAddCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Make a client with a new secret, and print its profile",
		Long: "Makes a secret and a client's file in clients_dir, and prints the profile that the client imports with\n" +
			"knockgw import: as text, its URI and a QR code. All three have the secret in them. With --out it is\n" +
			"written to a new file instead, which its owner alone can read.",
		Args: exact(1),
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions // it is a new one
	path := configFlag(cmd)
	services := cmd.Flags().StringArray("service", nil, "the `name` of a service that the client may use; can be repeated (default: all)")
	completeFlag(cmd, "service", completeServices(place{config: path}))
	var h handout
	h.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.run(cmd, func(secret protocol.Secret) (*enroll.Change, error) {
			return enroll.Add(*path, enroll.Newcomer{
				ID: args[0], Secret: secret, Services: *services, Terms: enroll.Terms{Name: h.name, Method: h.method},
			})
		}, args[0], "added")
	}
	return cmd
}

// overlap is how long the older secrets are good after a new one was made: a day to import it.
const overlap = 24 * time.Hour

func clientRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a client a new secret beside the old one, and print its new profile",
		Long: "The secrets that the client has end after --overlap; until then either opens the door. The new profile\n" +
			"is printed as client add does, with the --name and --method that it was given there; the client imports it\n" +
			"with --replace.",
		Args: exact(1),
	}
	path := configFlag(cmd)
	cmd.ValidArgsFunction = alone(completeOwnFiles(path))
	after := cmd.Flags().Duration("overlap", overlap, "how long the older secrets are still good; 0 ends them at once")
	h := handout{replace: true}
	h.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var until time.Time
		switch {
		case *after < 0:
			return &usageError{fmt.Errorf("--overlap %v: write a time from now on, or 0", *after)}
		case *after > 0:
			until = time.Now().Add(*after).Truncate(time.Second)
		}
		return h.run(cmd, func(secret protocol.Secret) (*enroll.Change, error) {
			return enroll.Rotate(*path, args[0], secret, until)
		}, args[0], "has a new secret")
	}
	return cmd
}

func clientRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: "Remove a client",
		Long: "Deletes the client's file in clients_dir. A client that stands in the configuration itself is refused:\n" +
			"remove it there.",
		Args: exact(1),
	}
	path := configFlag(cmd)
	output := outputFlag(cmd)
	cmd.ValidArgsFunction = alone(completeOwnFiles(path))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		change, err := enroll.Remove(*path, args[0])
		if err != nil {
			return err
		}
		taken, err := takeUp(cmd.Context(), change.Config)
		if err != nil {
			// It stays removed: of the two, a client who still gets in is the worse.
			return fmt.Errorf("client %s is removed, but the running gateway still knows it: %w", args[0], err)
		}
		return answer(cmd, *output, removedClient{args[0], change.File, taken}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "client %s is removed (%s); %s\n", termsafe.Name(args[0]), change.File, taken.words())
			return err
		})
	}
	return cmd
}

// removedClient is what client remove has done.
type removedClient struct {
	Client  string `json:"client"`
	File    string `json:"file"` // that there was
	Gateway uptake `json:"gateway"`
}

// uptake is what became of a change in the running gateway, in the words of JSON.
type uptake string

const (
	takenUp     uptake = "reloaded"
	notRunning  uptake = "not-running"
	unavailable uptake = "unavailable" // it is starting or stopping
	notAsked    uptake = "not-asked"   // there is no control.socket
)

// words are for people.
func (u uptake) words() string {
	switch u {
	case takenUp:
		return "the running gateway has taken it up"
	case notRunning:
		return "no gateway is running: start knockgw"
	case unavailable:
		return "the gateway is starting or stopping: run knockgw reload"
	default:
		return "send SIGHUP to knockgw, or start it (with control.socket in the configuration it would be asked)"
	}
}

// takeUpTime is how long the gateway may say nothing. While it works it says so, several times in that.
const takeUpTime = 30 * time.Second

// takeUp has the running gateway read its configuration again, and says what came of it. An error is the
// gateway's: it refused, and goes on with what it had.
func takeUp(ctx context.Context, c *config.Config) (uptake, error) {
	if c.Control.Socket == "" {
		return notAsked, nil
	}
	// An interrupt must not part what is on the disk from what the gateway goes by.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	silent := time.AfterFunc(takeUpTime, func() { cancel(context.DeadlineExceeded) })
	defer silent.Stop()
	gateway := control.Client{Socket: c.Control.Socket, Working: func() { silent.Reset(takeUpTime) }}
	_, err := gateway.Reload(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return notRunning, nil
	case errors.Is(err, control.ErrUnavailable):
		return unavailable, nil
	case err != nil:
		return "", fmt.Errorf("the running gateway: %w", err)
	}
	return takenUp, nil
}

func clientListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the clients of a gateway",
		Long: "Lists the clients of the configuration and of clients_dir, without their secrets. A file of clients_dir with\n" +
			"a mistake in it is named on standard error, and the exit code is 1; the others are listed all the same.",
		Args: exact(0),
	}
	path := configFlag(cmd)
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, bad := config.LoadGood(*path)
		if c == nil {
			return bad
		}
		list := listedClients{Clients: clientRows(c), Invalid: invalidFiles(bad)}
		if err := answer(cmd, *output, list, func(w io.Writer) error { return clientTable(w, list.Clients) }); err != nil {
			return err
		}
		if bad == nil {
			return nil
		}
		report(cmd.ErrOrStderr(), bad)
		return &reportedError{errors.New("there are clients with mistakes in their files")}
	}
	return cmd
}

// listedClients is what client list prints.
type listedClients struct {
	Clients []clientRow     `json:"clients"`
	Invalid []invalidClient `json:"invalid"`
}

// invalidClient is a mistake in a file of clients_dir, with which no gateway starts or reloads.
type invalidClient struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0: the file as a whole
	Key     string `json:"key"`
	Problem string `json:"problem"`
}

// invalidFiles are the mistakes that were joined in an error of config's.
func invalidFiles(err error) []invalidClient {
	all := []invalidClient{}
	for _, e := range errlist.Errors(err) {
		if mistake := (*config.Error)(nil); errors.As(e, &mistake) {
			all = append(all, invalidClient{mistake.File, mistake.Line, mistake.Key, mistake.Msg})
		}
	}
	return all
}

// clientRow is a client without its secrets.
type clientRow struct {
	ID       string      `json:"id"`
	Services []string    `json:"services"` // all that it may use, by name
	All      bool        `json:"all"`      // the file names none: later ones too
	Secrets  []secretRow `json:"secrets"`
	Expires  *time.Time  `json:"expires,omitempty"`
	File     string      `json:"file"`
	Line     int         `json:"line"`
}

// secretRow is a secret without itself.
type secretRow struct {
	Until *time.Time `json:"until,omitempty"`
}

func clientRows(c *config.Config) []clientRow {
	rows := make([]clientRow, 0, len(c.Clients))
	for i := range c.Clients {
		client := &c.Clients[i]
		place, _ := c.PlaceOf(client.ID)
		row := clientRow{
			ID: client.ID, Services: []string{}, Expires: end(client.Expires),
			File: place.File, Line: place.Line, Secrets: []secretRow{}, All: client.Services == nil,
		}
		for _, name := range serviceNames(c) {
			if client.May(name) {
				row.Services = append(row.Services, name)
			}
		}
		for _, s := range client.Secrets {
			row.Secrets = append(row.Secrets, secretRow{end(s.Until)})
		}
		rows = append(rows, row)
	}
	return rows
}

// serviceNames are the names of all services.
func serviceNames(c *config.Config) []string {
	names := make([]string, len(c.Services))
	for i := range c.Services {
		names[i] = c.Services[i].Name
	}
	return names
}

// end is a date, nil for none.
func end(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func clientTable(w io.Writer, rows []clientRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLIENT\tSERVICES\tSECRETS\tEXPIRES\tFILE")
	for _, r := range rows {
		services := list(r.Services)
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
