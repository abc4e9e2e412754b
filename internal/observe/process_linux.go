package observe

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/procfs"
)

// processCollector collects the resources of this process, under the same names
// as the collector of the Prometheus client. That one calls statfs on /proc and
// opens the directory of descriptors at each collection, which a gateway that
// has dropped its privileges may not: this one does both at the start.
type processCollector struct {
	fs procfs.FS

	mu  sync.Mutex
	fds *os.File // /proc/self/fd; nil while no gateway runs
}

func newProcessCollector() prometheus.Collector {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	return &processCollector{fs: fs}
}

// open opens the directory of descriptors, until the returned function is
// called.
func (c *processCollector) open() (done func()) {
	f, err := os.Open("/proc/self/fd")
	if err != nil {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fds = f
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fds = nil
		_ = f.Close()
	}
}

var (
	processCPU     = prometheus.NewDesc("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", nil, nil)
	processMemory  = prometheus.NewDesc("process_resident_memory_bytes", "Resident memory size in bytes.", nil, nil)
	processVirtual = prometheus.NewDesc("process_virtual_memory_bytes", "Virtual memory size in bytes.", nil, nil)
	processStart   = prometheus.NewDesc("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", nil, nil)
	processFDs     = prometheus.NewDesc("process_open_fds", "Number of open file descriptors.", nil, nil)
	processMaxFDs  = prometheus.NewDesc("process_max_fds", "Maximum number of open file descriptors.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *processCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{processCPU, processMemory, processVirtual, processStart, processFDs, processMaxFDs} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Values that cannot be read are
// omitted.
func (c *processCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	p, err := c.fs.Proc(os.Getpid())
	if err != nil {
		return
	}
	if stat, err := p.Stat(); err == nil {
		ch <- prometheus.MustNewConstMetric(processCPU, prometheus.CounterValue, stat.CPUTime())
		gauge(processMemory, float64(stat.ResidentMemory()))
		gauge(processVirtual, float64(stat.VirtualMemory()))
		if start, err := stat.StartTime(); err == nil {
			gauge(processStart, start)
		}
	}
	if limits, err := p.Limits(); err == nil {
		gauge(processMaxFDs, float64(limits.OpenFiles))
	}
	if n, err := c.descriptors(); err == nil {
		gauge(processFDs, float64(n))
	}
}

// errNotOpen is returned while no gateway runs.
var errNotOpen = errors.New("the gateway is not running")

// descriptors counts the entries of /proc/self/fd.
func (c *processCollector) descriptors() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fds == nil {
		return 0, errNotOpen
	}
	if _, err := c.fds.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	names, err := c.fds.Readdirnames(-1)
	return len(names), err
}
