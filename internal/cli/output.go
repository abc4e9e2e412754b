package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Results for programs are JSON on standard output, with nothing else there: an
// object with documented keys (docs/reference.md), in which a list is never null
// and units are part of the keys.

// The output formats.
const (
	asText = "text"
	asJSON = "json"
)

// formats returns the output formats; the first is the default.
func formats() []string { return []string{asText, asJSON} }

// outputFlag adds -o to a command that prints one result.
func outputFlag(cmd *cobra.Command) *string {
	return enum{"output `format`", formats()}.flag(cmd, "output", "o")
}

// linesFlag adds -o to a command that prints a sequence of results.
func linesFlag(cmd *cobra.Command) *string {
	return enum{"output `format` (JSON: one object per line)", formats()}.flag(cmd, "output", "o")
}

// printResult prints a result as JSON, or calls text to print it.
func printResult(cmd *cobra.Command, format string, result any, text func(io.Writer) error) error {
	if format != asJSON {
		return text(cmd.OutOrStdout())
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(result)
}

// printLine prints one of several results as a JSON object on a line, or calls
// text to print it.
func printLine(cmd *cobra.Command, format string, result any, text func(io.Writer) error) error {
	if format != asJSON {
		return text(cmd.OutOrStdout())
	}
	return json.NewEncoder(cmd.OutOrStdout()).Encode(result)
}

// enum describes a flag that takes one of several values. The first is the
// default.
type enum struct {
	usage  string
	values []string
}

// flag adds the flag to a command.
func (e enum) flag(cmd *cobra.Command, name, short string) *string {
	v := &enumValue{value: e.values[0], allowed: e.values}
	cmd.Flags().VarP(v, name, short, e.usage+": "+alternatives(e.values))
	completeFlag(cmd, name, cobra.FixedCompletions(e.values, cobra.ShellCompDirectiveNoFileComp))
	return &v.value
}

// enumValue is the value of such a flag. It implements pflag.Value.
type enumValue struct {
	value   string
	allowed []string
}

// String returns the value.
func (v *enumValue) String() string { return v.value }

// Type returns the name of the type in help texts.
func (v *enumValue) Type() string { return "format" }

// Set sets the value to one that is allowed.
func (v *enumValue) Set(value string) error {
	if !slices.Contains(v.allowed, value) {
		return errors.New("choose " + alternatives(v.allowed))
	}
	v.value = value
	return nil
}

// alternatives returns words as an enumeration in a sentence.
func alternatives(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return fmt.Sprintf("%s or %s", strings.Join(words[:last], ", "), words[last])
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
