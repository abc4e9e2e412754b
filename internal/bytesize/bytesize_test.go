package bytesize

import (
	"math"
	"testing"
)

func TestTextUsesBinaryUnits(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0 B", 119.6: "120 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 90 << 20: "90.0 MiB",
		7 << 40: "7.0 TiB", 3 << 50: "3.0 PiB", math.MaxUint64: "16.0 EiB",
	} {
		if got := Text(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
}
