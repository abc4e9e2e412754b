// Package qrcode draws QR codes on terminals.
package qrcode

import (
	"fmt"
	"io"
	"strings"

	"rsc.io/qr"
)

const (
	// quietZone is the white border of a QR code, in modules (ISO/IEC 18004).
	quietZone = 4
	// maxColumns is the default width of a terminal.
	maxColumns = 80
	// maxSide is the side of the largest QR code, version 40, in modules.
	maxSide = 177
)

// A TooWideError says that a QR code does not fit a terminal.
type TooWideError struct{ Columns int }

// Error says what to do.
func (e *TooWideError) Error() string {
	return fmt.Sprintf("the QR code needs %d columns, and a terminal has %d: pass the file or the URI on, "+
		"or make profiles of fewer services", e.Columns, maxColumns)
}

// Write draws a QR code in half-block characters, two modules a character. With
// colours it is black on white on any terminal; without, the background is
// taken to be dark. Errors: *TooWideError, or an error of w.
func Write(w io.Writer, content string, colours bool) error {
	code, err := qr.Encode(content, qr.L)
	if err != nil {
		return &TooWideError{maxSide + 2*quietZone}
	}
	side := code.Size + 2*quietZone
	if side > maxColumns {
		return &TooWideError{side}
	}

	const (
		blackOnWhite = "\x1b[38;5;16;48;5;231m" // 256-colour codes, which themes do not change
		reset        = "\x1b[0m"
	)
	// Indexed by whether the upper and the lower module are drawn.
	blocks := map[[2]bool]rune{{false, false}: ' ', {true, false}: '▀', {false, true}: '▄', {true, true}: '█'}
	drawn := func(x, y int) bool {
		if y >= side {
			return false // below an odd last row
		}
		return code.Black(x-quietZone, y-quietZone) == colours
	}

	var b strings.Builder
	for y := 0; y < side; y += 2 {
		if colours {
			b.WriteString(blackOnWhite)
		}
		for x := range side {
			b.WriteRune(blocks[[2]bool{drawn(x, y), drawn(x, y+1)}])
		}
		if colours {
			b.WriteString(reset)
		}
		b.WriteByte('\n')
	}
	_, err = io.WriteString(w, b.String())
	return err
}
