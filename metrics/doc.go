// Package metrics provides Prometheus collectors for a gate and for TCP
// authentications, to be registered in a program's own registry. The gateway
// uses the same collectors, so that one dashboard fits both.
//
//	gate, auths := metrics.NewGate(), metrics.NewAuth()
//	registry.MustRegister(gate, auths)
//	g, err := guard.New(guard.Options{Knocked: gate.Knocked, ...})
//	gate.Watch(g)
//	ln, err := g.Guard("api", inner, auth.ListenerOptions{Report: auths.Report("api")})
//	auths.Watch("api", ln)
//
// Label values are results, reasons and methods, which are enumerations, and
// the names that the program gives its services: no value comes from the
// network, and there are no addresses.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package metrics
