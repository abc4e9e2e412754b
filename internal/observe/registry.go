package observe

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// A ProcessRegistry is the registry of a gateway that is a program of its own:
// it includes the metrics of the process.
type ProcessRegistry struct {
	*prometheus.Registry
	process prometheus.Collector // nil if the system has none
}

// NewProcessRegistry returns a registry with the metrics of the process.
func NewProcessRegistry() *ProcessRegistry {
	r := &ProcessRegistry{Registry: prometheus.NewRegistry(), process: newProcessCollector()}
	r.MustRegister(collectors.NewGoCollector())
	if r.process != nil {
		r.MustRegister(r.process)
	}
	return r
}

// Open opens what the metrics are read from, while the process has the
// privileges for that, until the returned function is called. A nil registry
// opens nothing.
func (r *ProcessRegistry) Open() (closeFiles func()) {
	if r != nil {
		if p, ok := r.process.(interface{ open() func() }); ok {
			return p.open()
		}
	}
	return func() {}
}
