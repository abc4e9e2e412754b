//go:build gen

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/knockgw/knockgw/internal/buildinfo"
)

// This command is for building packages only (go run -tags gen ./cmd/knockgw gen
// DIRECTORY); the program does not contain the generator of man pages.

func addGenCommand(root *cobra.Command) { root.AddCommand(genCommand(root)) }

func genCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:    "gen DIRECTORY",
		Short:  "Write man pages and shell completions (in the root of the repository)",
		Hidden: true,
		Args:   exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			man, completions := filepath.Join(args[0], "man"), filepath.Join(args[0], "completions")
			for _, dir := range []string{man, completions} {
				if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // public
					return err
				}
			}
			root.DisableAutoGenTag = true                                            // it contains the date
			seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64) // of the commit
			if err != nil {
				return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
			}
			epoch := time.Unix(seconds, 0).UTC()

			header := &doc.GenManHeader{Section: "1", Source: "knockgw " + buildinfo.This().Version, Manual: "knockgw", Date: &epoch}
			if err := doc.GenManTree(root, header, man); err != nil {
				return err
			}
			if err := configPage(filepath.Join(man, "knockgw.yaml.5"), "docs/configuration.md", epoch); err != nil {
				return err
			}
			for _, page := range []string{"knockgw.1", "knockgw-run.1", "knockgw-check.1"} {
				if err := seeConfig(filepath.Join(man, page)); err != nil {
					return err
				}
			}

			for name, write := range map[string]func(string) error{
				"knockgw.bash": func(f string) error { return root.GenBashCompletionFileV2(f, true) },
				"_knockgw":     root.GenZshCompletionFile,
				"knockgw.fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
			} {
				if err := write(filepath.Join(completions, name)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
