package qrcode

import (
	"errors"
	"strings"
	"testing"

	"rsc.io/qr"
)

// modules parses a drawing: true for black.
func modules(drawing string, colours bool) [][]bool {
	var rows [][]bool
	for line := range strings.Lines(drawing) {
		line = strings.TrimSuffix(line, "\n")
		if colours {
			line = strings.TrimSuffix(line[strings.Index(line, "m")+1:], "\x1b[0m")
		}
		var upper, lower []bool
		for _, r := range line {
			upper = append(upper, strings.ContainsRune("▀█", r) == colours)
			lower = append(lower, strings.ContainsRune("▄█", r) == colours)
		}
		rows = append(rows, upper, lower)
	}
	return rows
}

func TestWriteDrawsEveryModule(t *testing.T) {
	const content = "knockgw://1/abc"
	code, err := qr.Encode(content, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	for _, colours := range []bool{true, false} {
		var out strings.Builder
		if err := Write(&out, content, colours); err != nil {
			t.Fatal(err)
		}
		rows := modules(out.String(), colours)
		side := code.Size + 2*quietZone
		if len(rows) < side || len(rows) > side+1 {
			t.Fatalf("%d rows for %d", len(rows), side)
		}
		for y := range side {
			if len(rows[y]) != side {
				t.Fatalf("row %d has %d modules, not %d", y, len(rows[y]), side)
			}
			for x := range side {
				if want := code.Black(x-quietZone, y-quietZone); rows[y][x] != want {
					t.Fatalf("colours %v: the module at %d, %d is %v", colours, x, y, !want)
				}
			}
		}
		if has := strings.Contains(out.String(), "\x1b["); has != colours {
			t.Errorf("colours %v: escape sequences %v", colours, has)
		}
	}
}

func TestWriteRejectsWideCodes(t *testing.T) {
	for _, size := range []int{500, 5000} {
		var wide *TooWideError
		err := Write(&strings.Builder{}, strings.Repeat("a", size), true)
		if !errors.As(err, &wide) || wide.Columns <= maxColumns || !strings.Contains(err.Error(), "the file or the URI") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
