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

// How results are printed. Those for programs are JSON on standard output and nothing else there: an object with
// documented names (docs/reference.md), in which a list is never null, and units are in the names.

// The formats of a result.
const (
	asText = "text" // for people
	asJSON = "json" // for programs
)

// formats are both; the first is the default.
func formats() []string { return []string{asText, asJSON} }

// outputFlag adds -o, which every command has that has a result.
func outputFlag(cmd *cobra.Command) *string {
	return choice{"how to print the result", formats()}.flag(cmd, "output", "o")
}

// linesFlag adds the -o of a command that has one result after the other.
func linesFlag(cmd *cobra.Command) *string {
	return choice{"how to print what comes, of JSON an object a line", formats()}.flag(cmd, "output", "o")
}

// answer prints a result, as JSON or for people.
func answer(cmd *cobra.Command, output string, what any, people func(io.Writer) error) error {
	if output != asJSON {
		return people(cmd.OutOrStdout())
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(what)
}

// answerLine prints one of several results, as an object on a line or for people.
func answerLine(cmd *cobra.Command, output string, what any, people func(io.Writer) error) error {
	if output != asJSON {
		return people(cmd.OutOrStdout())
	}
	return json.NewEncoder(cmd.OutOrStdout()).Encode(what)
}

// choice is what a flag that takes one of some words is about, and the words, of which the first is the default.
type choice struct {
	about string
	words []string
}

// flag adds it to a command.
func (c choice) flag(cmd *cobra.Command, name, short string) *string {
	f := &chosen{word: c.words[0], words: c.words}
	cmd.Flags().VarP(f, name, short, c.about+": "+alternatives(c.words))
	completeFlag(cmd, name, cobra.FixedCompletions(c.words, cobra.ShellCompDirectiveNoFileComp))
	return &f.word
}

// chosen is a word that was chosen. It implements pflag.Value.
type chosen struct {
	word  string
	words []string
}

// String is the word.
func (c *chosen) String() string { return c.word }

// Type is what a usage calls it.
func (c *chosen) Type() string { return "word" }

// Set takes one of the words.
func (c *chosen) Set(word string) error {
	if !slices.Contains(c.words, word) {
		return errors.New("choose " + alternatives(c.words))
	}
	c.word = word
	return nil
}

// alternatives are words in a sentence.
func alternatives(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return fmt.Sprintf("%s or %s", strings.Join(words[:last], ", "), words[last])
}

// isTerminal reports whether what is written to w is seen by a person.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
