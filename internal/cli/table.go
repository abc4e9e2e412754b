package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// columns begins a table.
func columns(w io.Writer, names ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(names, "\t"))
	return t
}

// row adds a line to a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, c)
	}
	fmt.Fprintln(w)
}

// more says that a list goes on.
func more(w io.Writer, n int) error {
	if n == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "and %d more\n", n)
	return err
}

// listed is how many entries of a list fit in a table's cell.
const listed = 6

func list(s []string) string { return listOf(s, len(s)) }

// listOf is list for the first of n entries.
func listOf(s []string, n int) string {
	switch {
	case n == 0:
		return "-"
	case n > listed:
		return fmt.Sprintf("%s, ... (%d)", strings.Join(s[:listed], ", "), n)
	default:
		return strings.Join(s, ", ")
	}
}
