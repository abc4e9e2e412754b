package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// newTable begins a table with a header line.
func newTable(w io.Writer, names ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(names, "\t"))
	return t
}

// addRow adds a line to a table.
func addRow(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, c)
	}
	fmt.Fprintln(w)
}

// printRemaining prints how many entries are not in the list.
func printRemaining(w io.Writer, n int) error {
	if n == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "and %d more\n", n)
	return err
}

// maxListed is the number of entries that are listed in a cell of a table.
const maxListed = 6

// joinLimited returns the entries of a list, at most maxListed.
func joinLimited(s []string) string { return joinLimitedOf(s, len(s)) }

// joinLimitedOf is joinLimited for a list of n entries that begins with s.
func joinLimitedOf(s []string, n int) string {
	switch {
	case n == 0:
		return "-"
	case n > maxListed:
		return fmt.Sprintf("%s, ... (%d)", strings.Join(s[:maxListed], ", "), n)
	default:
		return strings.Join(s, ", ")
	}
}
