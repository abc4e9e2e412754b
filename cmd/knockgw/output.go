package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// How results are printed. Those for programs are JSON on standard output and nothing else there: an object with
// documented names (docs/operating.md), in which a list is never null, and units are in the names.

// The formats of a result.
const (
	asText = "text" // for people
	asJSON = "json" // for programs
)

// outputFlag adds -o, which every command has that has a result.
func outputFlag(cmd *cobra.Command) *string {
	return choiceFlag(cmd, "output", "o", asText, "how to print the result: ", asText, asJSON)
}

// linesFlag adds the -o of a command that has one result after the other.
func linesFlag(cmd *cobra.Command) *string {
	return choiceFlag(cmd, "output", "o", asText, "how to print what comes, of JSON an object a line: ", asText, asJSON)
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

// choiceFlag adds a flag that takes one of some words, which its usage lists.
func choiceFlag(cmd *cobra.Command, name, short, value, usage string, words ...string) *string {
	c := &choice{value: value, words: words}
	cmd.Flags().VarP(c, name, short, usage+alternatives(words))
	completeFlag(cmd, name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	return &c.value
}

// choice is a flag that takes one of some words. It implements pflag.Value.
type choice struct {
	value string
	words []string
}

// String is the word.
func (c *choice) String() string { return c.value }

// Type is what a usage calls it.
func (c *choice) Type() string { return "word" }

// Set takes one of the words.
func (c *choice) Set(word string) error {
	if !slices.Contains(c.words, word) {
		return errors.New("choose " + alternatives(c.words))
	}
	c.value = word
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
