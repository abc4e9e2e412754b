//go:build linux

package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/test/bench/load"
	"github.com/knockgw/knockgw/test/netns/lab"
)

const (
	// benchVariable set to 1 asks for measurements.
	benchVariable = "KNOCKGW_BENCH"
	// outVariable is the directory of the report; one that does not begin with
	// / is the repository's.
	outVariable = "BENCH_OUT"
	outDefault  = "bench-out"
	// roundsVariable is the number of rounds of every part, instead of its own.
	roundsVariable = "BENCH_ROUNDS"
	// congestionVariable is the congestion control of all the sockets, instead
	// of the machine's own. What a proxy gets through depends on it a lot: one
	// that paces sends smaller segments.
	congestionVariable = "BENCH_CONGESTION"
	// loadVariable set to 1 makes this program a generator of load.
	loadVariable = "KNOCKGW_BENCH_LOAD"

	congestionSetting = "ipv4/tcp_congestion_control"

	repository = "../.."
)

func TestMain(m *testing.M) {
	if os.Getenv(loadVariable) == "1" {
		if err := load.Main(os.Args[1:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestBench measures, part by part, and reports all of it in the end.
func TestBench(t *testing.T) {
	asked(t)
	lab.Require(t)
	lab.RequireTools(t, "iperf3", "haproxy")
	b := &bench{build: program(t), report: &report{Machine: thisMachine(t)}}
	t.Run("throughput", b.throughput)
	t.Run("connections", b.connections)
	t.Run("latency", b.latency)
	t.Run("memory", b.memory)
	t.Run("lossy", b.lossy)
	t.Run("flood", b.flood)
	t.Run("refused", b.refused)
	t.Run("junk", b.junk)
	b.report.finish()
	fmt.Printf("\n%s\n", b.report.markdown())
	if err := b.report.write(out()); err != nil {
		t.Error(err)
	}
}

// bench is what the parts share.
type bench struct {
	build  *lab.Build
	report *report
}

// asked skips the test unless measurements are asked for.
func asked(t *testing.T) {
	t.Helper()
	if os.Getenv(benchVariable) != "1" {
		t.Skipf("set %s=1 to measure", benchVariable)
	}
}

// program builds knockgw for one measurement.
func program(t *testing.T) *lab.Build {
	t.Helper()
	build, err := lab.NewBuild()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := build.Remove(); err != nil {
			t.Error(err)
		}
	})
	return build
}

// newLab builds a lab whose sockets use the congestion control that was asked
// for.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l := lab.New(t)
	if control := os.Getenv(congestionVariable); control != "" {
		l.Congestion(control)
	}
	return l
}

// rounds is how many there are of a part that by itself has so many.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	text := os.Getenv(roundsVariable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, not a number of rounds", roundsVariable, text)
	}
	return n
}

// out is the directory of the report.
func out() string {
	dir := os.Getenv(outVariable)
	if dir == "" {
		dir = outDefault
	}
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(repository, dir)
}

func thisMachine(t *testing.T) machine {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	return machine{CPUs: runtime.NumCPU(), Kernel: unix.ByteSliceToString(name.Release[:]), Go: runtime.Version(),
		Congestion: congestion(t)}
}

// congestion is the congestion control of the sockets.
func congestion(t *testing.T) string {
	t.Helper()
	if control := os.Getenv(congestionVariable); control != "" {
		return control
	}
	return lab.New(t).Gateway.Setting(congestionSetting)
}
