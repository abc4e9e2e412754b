//go:build linux

package bench_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReportFormatsAgree(t *testing.T) {
	t.Parallel()
	r := &report{Machine: machine{CPUs: 2}}
	p := r.part("throughput", "Two proxies.", ours, theirs)
	up := p.row("up", "Gb/s").wants(atLeast(1.25))
	for i, v := range []float64{10, 12, 30} {
		up.add(ours, v)
		up.add(theirs, []float64{5, 10, 10}[i]) // ratios 2, 1.2, 3
	}
	if p.row("up", "Gb/s") != up {
		t.Error("a row was made twice")
	}
	p.row("memory", "KiB").wants(atMost(24).of(ours)).add(ours, 28.4)
	p.row("unknown", "ns").wants(atMost(1)).note("not measured")
	r.finish()
	dir := filepath.Join(t.TempDir(), "made")
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bench.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| up | Gb/s | 12.0 | 10.0 | 2.00 (1.20 to 3.00) | ratio ≥ 1.25 | met |",
		"| memory | KiB | 28.4 |  |  | knockgw ≤ 24 | **missed** |",
		"| unknown | ns |  |  |  | ratio ≤ 1 |  |",
		"- unknown: not measured",
	} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("the table has no line %q:\n%s", line, text)
		}
	}
	text, err = os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var read report
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	got := read.Parts[0].Rows[0]
	if *got.Medians[0] != 12 || got.Ratio.Median != 2 || !*got.Met || len(got.Rounds[1]) != 3 {
		t.Errorf("the program reads %s", text)
	}
}

func TestFigureHasThreeDigits(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 0.01234: "0.0123", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 12345: "12345"} {
		if got := figure(v); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}
