// Package metrics counts for Prometheus what the parts of this module tell: collectors for a program's
// own registry. The gateway uses the same ones, so that one dashboard fits all.
//
//	gate, auths := metrics.NewGate(), metrics.NewAuth()
//	registry.MustRegister(gate, auths)
//	g, err := guard.New(guard.Options{Knocked: gate.Knocked, ...})
//	gate.Watch(g)
//	ln, err := g.Guard("api", inner, auth.ListenerOptions{Report: auths.Report("api")})
//	auths.Watch("api", ln)
//
// Labels are results, reasons and methods, which are enumerations, and the names that the program gives
// its services: never what strangers send, and no addresses.
package metrics
