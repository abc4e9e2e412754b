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
		Short: "Turn a file of libknock's knock-proxy into a configuration or a profile",
		Long: "Reads the YAML file of a knock-proxy server or client, and makes of it a configuration of the gateway or a\n" +
			"profile, with each secret in a file of mode 0600. Notes on standard error, each with its line, say what\n" +
			"became of every key that was not simply taken over. FILE is not changed.\n\n" +
			"Without --out-dir the result is printed, for a look: with no secret in it. The notes say where they belong.",
		Args: exactArgs(1),
	}
	flags := cmd.Flags()
	dir := flags.String("out-dir", "", "write the files to this `directory`, which must be empty or not exist")
	listen := flags.String("listen", "", "a server's protected `address`, which is routed to the gateway's device; with :PORT\n"+
		"if clients are to dial another port than now")
	completeFlag(cmd, "out-dir", completeDirectories)
	cmd.ValidArgsFunction = completeOnce(completeFiles("yaml", "yml"))
	output := outputFlag(cmd)
	service := flags.String("service", "", "the service's `name` (default: one that its port suggests)")
	completeFlag(cmd, "service", cobra.NoFileCompletions) // it is a new one
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

// migrateResult is what -o json says.
type migrateResult struct {
	Files []migratedFile `json:"files"` // that were written; without --out-dir the one that would be
	Next  []string       `json:"next"`  // commands to go on with
	Notes []migratedNote `json:"notes"`
}

type migratedFile struct {
	File string `json:"file"`
	Text string `json:"text,omitempty"` // where it was not written; no secret is in it
}

// migratedNote says what became of a key.
type migratedNote struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Key  string `json:"key"`
	Text string `json:"text"`
	Warn bool   `json:"warning"` // something that was safe, or worked, is so no longer
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

// printMigrated names the files and the commands to go on with.
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

// parseProtected reads an address with or without a port; without, the port is 0.
func parseProtected(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, 0), nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("--listen %s: is not an address; write it as 10.77.0.1 or 10.77.0.1:22", text)
	}
	return at, nil
}
