package gateway

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/gateconfig"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

const (
	// maxGrowth is the maximum ratio of memory between a configuration with
	// twice the clients and services and the original: 2, and the reserve of
	// tables that double their size. Memory for each pair of the two would be
	// 4.
	maxGrowth = 2.6

	// maxPerEntry is the maximum number of bytes for each client and each
	// service. Some 4 KiB is usual; 200 bytes for each pair of 4,000 and 1,000
	// would be 160,000.
	maxPerEntry = 8 << 10
)

// largeConfig returns a configuration with many clients and services. A client
// may use all of them, or one.
func largeConfig(clients, services int, all bool) []byte {
	var b strings.Builder
	b.WriteString("version: 1\ntun: {routes: [10.64.0.0/10]}\nknock: {gateway: gw.example.org}\nclients:\n")
	for i := range clients {
		fmt.Fprintf(&b, "  - {id: client-%d, secret: \"0123456789abcdef0123456789-%d\"", i, i)
		if !all {
			fmt.Fprintf(&b, ", services: [service-%d]", i%services)
		}
		b.WriteString("}\n")
	}
	b.WriteString("services:\n")
	addr := netip.MustParseAddr("10.77.0.1")
	for i := range services {
		fmt.Fprintf(&b, "  - {name: service-%d, listen: \"%v:443\", upstream: \"10.0.2.2:443\", knock: [udp, udp-v2]}\n", i, addr)
		addr = addr.Next()
	}
	return []byte(b.String())
}

// built is a gateway that is ready to admit packets.
type built struct {
	gateway *Gateway
	gate    *admission.Gate
}

func buildGateway(t *testing.T, load func() (*config.Config, error)) built {
	t.Helper()
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := admission.New(admission.Options{
		Policy: g.snapshots.current.Load().policy, Store: replay.NewMemoryStore(replay.Options{}),
		Deliver: func(*packet.Packet, admission.Verdict) {}, Evicted: func(packet.Tuple) {},
		Limits: gateconfig.Limits(&cfg.Limits), Ban: admission.Ban(cfg.Ban),
	})
	if err != nil {
		t.Fatal(err)
	}
	return built{g, gate}
}

// heap returns how many bytes are in use.
func heap() int {
	var m runtime.MemStats
	for range 3 { // what pools keep goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// memoryOf returns the memory of a configuration in bytes, without its text.
func memoryOf(t *testing.T, text []byte) int {
	t.Helper()
	before := heap()
	b := buildGateway(t, func() (*config.Config, error) { return config.Parse("many.yaml", text) })
	after := heap()
	runtime.KeepAlive(b)
	runtime.KeepAlive(text)
	return after - before
}

func TestMemoryGrowsLinearly(t *testing.T) {
	const clients, services = 2000, 500
	for name, all := range map[string]bool{"all services": true, "one service": false} {
		began := time.Now()
		least := memoryOf(t, largeConfig(1, 1, all)) // tables of a fixed size
		once := memoryOf(t, largeConfig(clients, services, all)) - least
		twice := memoryOf(t, largeConfig(2*clients, 2*services, all)) - least
		each := twice / (2*clients + 2*services)
		t.Logf("%s for each client: %d KiB, then %d KiB with twice as many of both; %d bytes for each; %v",
			name, once>>10, twice>>10, each, time.Since(began))
		if float64(twice) > maxGrowth*float64(once) {
			t.Errorf("%s for each client: %d bytes, and %d with twice as many of both", name, once, twice)
		}
		if each > maxPerEntry {
			t.Errorf("%s for each client: %d bytes for each client and service", name, each)
		}
	}
}

func TestMemoryOfLargeConfiguration(t *testing.T) {
	if os.Getenv("KNOCKGW_LONG") == "" {
		t.Skip("takes seconds and 200 MiB: KNOCKGW_LONG=1")
	}
	const clients, services = 20000, 5000
	for name, all := range map[string]bool{"all services": true, "one service": false} {
		file := filepath.Join(t.TempDir(), "many.yaml")
		if err := os.WriteFile(file, largeConfig(clients, services, all), 0o600); err != nil {
			t.Fatal(err)
		}
		before, began := heap(), time.Now()
		var loaded time.Duration
		b := buildGateway(t, func() (*config.Config, error) {
			defer func() { loaded = time.Since(began) }()
			return config.Load(file)
		})
		took := time.Since(began)
		each := (heap() - before) / (clients + services)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%s for each client: loaded in %v, ready after %v; %d bytes for each client and service; %d MiB from the system",
			name, loaded, took, each, m.Sys>>20)
		if each > maxPerEntry {
			t.Errorf("%s for each client: %d bytes for each client and service", name, each)
		}
		runtime.KeepAlive(b)
	}
}
