// Command progress runs go test and shows how far it is: a line for each
// package, and for each test of the packages given with -each, with the time
// since STARTED (seconds since 1970). Tests that were skipped are listed at the
// end, with their reasons. Output is shown only of what failed.
//
//	progress [-each PACKAGE,...] -- GO-TEST-ARGUMENTS
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	each := flag.String("each", "", "last elements of the packages whose tests are shown")
	flag.Parse()
	r := report{out: os.Stdout, each: strings.Split(*each, ","), started: started(), output: make(map[string][]string)}
	if err := r.run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "progress:", err)
		os.Exit(1)
	}
}

// started returns when the whole run began.
func started() time.Time {
	seconds, err := strconv.ParseInt(os.Getenv("STARTED"), 10, 64)
	if err != nil {
		return time.Now()
	}
	return time.Unix(seconds, 0)
}

// An event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// A report shows the events of one run.
type report struct {
	out     io.Writer
	each    []string
	started time.Time

	output         map[string][]string // by package and test, until its end
	passed, failed int                 // tests, without their sub-tests
	skipped        []string
}

// run runs go test with the arguments and reports its events.
func (r *report) run(args []string) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...) //nolint:gosec // the Makefile's arguments
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}

	r.read(stdout)
	r.summary()
	return cmd.Wait()
}

// read reports events until their end. Lines that are none are shown.
func (r *report) read(in io.Reader) {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil {
			r.add(e)
		} else {
			fmt.Fprintf(r.out, "%s", line)
		}
		if err != nil {
			return
		}
	}
}

// add reports one event.
func (r *report) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "pass", "skip", "fail":
		r.end(e, key)
		delete(r.output, key)
	}
}

// end reports the end of a test or a package.
func (r *report) end(e event, key string) {
	name := path.Base(e.Package)
	isTop := e.Test != "" && !strings.Contains(e.Test, "/")
	switch {
	case e.Action == "skip" && e.Test != "":
		r.skipped = append(r.skipped, fmt.Sprintf("%s %s: %s", name, e.Test, reason(r.output[key])))
	case e.Action == "pass" && isTop:
		r.passed++
	case e.Action == "fail":
		if isTop {
			r.failed++
		}
		fmt.Fprint(r.out, strings.Join(r.output[key], ""))
	}

	if e.Test == "" || isTop && slices.Contains(r.each, name) {
		fmt.Fprintf(r.out, "[%s] %-4s %6.1fs %s\n", elapsed(r.started), e.Action, e.Elapsed,
			strings.TrimSpace(cmp.Or(e.Package, e.ImportPath)+" "+e.Test))
	}
}

// reason returns why a test was skipped: the last line that it logged.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "---") || strings.HasPrefix(text, "===") {
			continue
		}
		if _, after, ok := strings.Cut(text, ".go:"); ok {
			_, text, _ = strings.Cut(after, ": ")
		}
		return text
	}
	return "no reason given"
}

// summary reports the totals and the skipped tests.
func (r *report) summary() {
	fmt.Fprintf(r.out, "[%s] %d tests passed, %d failed, %d skipped (sub-tests included)\n", elapsed(r.started), r.passed, r.failed, len(r.skipped))
	slices.Sort(r.skipped)
	for _, s := range r.skipped {
		fmt.Fprintln(r.out, "  skipped:", s)
	}
}

// elapsed is the time since then as minutes and seconds.
func elapsed(since time.Time) string {
	s := int(time.Since(since).Seconds())
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}
