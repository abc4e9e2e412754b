package cli

import (
	"fmt"
	"io"
	"strings"

	"rsc.io/qr"
)

const (
	// quietZone is the white around a QR code, in modules: what its standard asks for.
	quietZone = 4
	// qrColumns is the width of a terminal that nobody has made wider.
	qrColumns = 80
)

// A wideError says that a QR code does not fit a terminal.
type wideError struct{ columns int }

// Error says what to do.
func (e *wideError) Error() string {
	return fmt.Sprintf("the QR code would have %d columns, and a terminal has %d: hand out the file or the URI, "+
		"or make profiles of fewer services", e.columns, qrColumns)
}

// writeQR draws a QR code in half-blocks, two modules a character. With colours it is black on white
// whatever the terminal's are; without, what is not drawn is taken to be dark.
func writeQR(w io.Writer, content string, colours bool) error {
	code, err := qr.Encode(content, qr.L)
	if err != nil {
		return &wideError{qrLargest + 2*quietZone}
	}
	side := code.Size + 2*quietZone
	if side > qrColumns {
		return &wideError{side}
	}
	const (
		blackOnWhite = "\x1b[38;5;16;48;5;231m" // of the 256 colours, which no theme changes
		reset        = "\x1b[0m"
	)
	// By what the upper module and the one below it draw.
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

// qrLargest is the side of the largest QR code that there is, in modules.
const qrLargest = 177
