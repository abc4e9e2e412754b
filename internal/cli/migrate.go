package cli

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/migrate"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate FILE [--out-dir DIR]",
		Short: "Convert a knock-proxy configuration of libknock",
		Long: "Converts the YAML file of a knock-proxy server or client to a configuration of the\n" +
			"gateway or a profile, with each secret in a file of mode 0600. Notes on standard error\n" +
			"explain, with line numbers, each key that was not converted one to one. FILE is not\n" +
			"changed.\n\n" +
			"Without --out-dir the result is only printed, with file names in place of secrets.",
		Args: exactArgs(1),
	}
	flags := cmd.Flags()
	dir := flags.String("out-dir", "", "write the files to this `directory`, which must be empty or not exist")
	listen := flags.String("listen", "", "protected `address` of a server, which is routed to the gateway's device; with :PORT\n"+
		"if clients will dial another port than now")
	completeFlag(cmd, "out-dir", completeDirectories)
	cmd.ValidArgsFunction = completeOnce(completeFiles("yaml", "yml"))
	output := outputFlag(cmd)
	service := flags.String("service", "", "`name` of the service (default: derived from its port)")
	completeFlag(cmd, "service", cobra.NoFileCompletions) // a new name

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := migrate.Options{Service: *service, TextOnly: *dir == ""}
		if *listen != "" {
			var err error
			if o.Listen, err = parseProtected(*listen); err != nil {
				return &usageError{err}
			}
		}
		if *dir != "" {
			if err := migrate.CheckEmpty(*dir); err != nil {
				return fmt.Errorf("--out-dir: %w", err)
			}
		}

		data, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		r, err := migrate.Convert(args[0], data, o)
		if err != nil {
			return err
		}

		if *output != asJSON {
			for _, n := range r.Notes {
				fmt.Fprintln(cmd.ErrOrStderr(), n)
			}
		}
		if *dir != "" {
			if err := r.Write(*dir); err != nil {
				return fmt.Errorf("--out-dir: %w", err)
			}
		}

		return printResult(cmd, *output, newMigrateResult(r, *dir), func(w io.Writer) error {
			if *dir == "" {
				_, err := w.Write(r.Files[0].Data)
				return err
			}
			return printMigrated(w, r, *dir)
		})
	}
	return cmd
}

// migrateResult is the JSON output.
type migrateResult struct {
	Files []migratedFile `json:"files"` // written; without --out-dir the one that would be
	Next  []string       `json:"next"`  // commands to continue with
	Notes []migratedNote `json:"notes"`
}

type migratedFile struct {
	File string `json:"file"`
	Text string `json:"text,omitempty"` // if it was not written; without secrets
}

// migratedNote explains the conversion of a key.
type migratedNote struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Key  string `json:"key"`
	Text string `json:"text"`
	Warn bool   `json:"warning"` // something is no longer safe, or no longer works
}

func newMigrateResult(r *migrate.Result, dir string) migrateResult {
	m := migrateResult{Files: []migratedFile{}, Next: []string{}, Notes: []migratedNote{}}
	for _, n := range r.Notes {
		m.Notes = append(m.Notes, migratedNote{n.File, n.Line, n.Key, n.Text, n.Warning})
	}
	if dir == "" {
		m.Files = append(m.Files, migratedFile{File: r.Files[0].Name, Text: string(r.Files[0].Data)})
		return m
	}
	for _, f := range r.Files {
		m.Files = append(m.Files, migratedFile{File: filepath.Join(dir, f.Name)})
	}
	m.Next = append(m.Next, r.Next(dir)...)
	return m
}

// printMigrated prints the files and the commands to continue with.
func printMigrated(w io.Writer, r *migrate.Result, dir string) error {
	for _, f := range r.Files {
		if _, err := fmt.Fprintln(w, "wrote", filepath.Join(dir, f.Name)); err != nil {
			return err
		}
	}
	for _, command := range r.Next(dir) {
		if _, err := fmt.Fprintln(w, "next:", command); err != nil {
			return err
		}
	}
	return nil
}

// parseProtected parses an address with a port, or without one as port 0.
func parseProtected(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, 0), nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("--listen %s: not an address; write 10.77.0.1 or 10.77.0.1:22", text)
	}
	return at, nil
}
