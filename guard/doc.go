// Package guard is the knock gate without a TUN device: it takes knocks from an
// ordinary UDP socket and admits connections of any net.Listener. It needs no
// privileges and runs on every system, in a container as well as on Windows.
//
//	knocks, err := net.ListenPacket("udp", ":62201")
//	g, err := guard.New(guard.Options{
//		Knocks:   []net.PacketConn{knocks},
//		Secrets:  secrets,
//		Services: []guard.Service{{Name: "api", Port: 8443, Mode: guard.ModeKnockAuth}},
//	})
//	inner, err := net.Listen("tcp", ":8443")
//	ln, err := g.Guard("api", inner, auth.ListenerOptions{})
//	go http.Serve(ln, handler)
//	err = g.Run(ctx)
//
// A knock is never answered. It is decided by the same gate as in package
// gateway, with the same rate limits, replay store, grants, hours and bans, and
// clients use package client for both.
//
// # What it does not hide
//
// The port. The host's own stack accepts connections before the gate sees them,
// so a scanner finds that there is a service. An unauthorized host receives:
//
//	ModeAuth, ModeKnockAuth  nothing but a reset, at the authentication's deadline, always alike
//	ModeKnock                nothing but a reset, a quarter of a second after connecting; at most a
//	                         whole one while a knock of that address is being decided
//
// The host answers for other UDP ports with ICMP: a scanner that compares may
// find that the port for knocks is silent. Use package gateway where the port
// itself must be hidden.
//
// # Addresses
//
// A grant is for the address that the knock came from, so both sockets must see
// the client's own: behind a proxy that substitutes its address, all clients are
// one source. A UDP socket bound to all addresses does not report to which of
// them a datagram was sent. A knock names its service by the protected port,
// which is part of the key of its MACs, and is valid at every address of the
// host where the service is guarded; therefore each service of a Guard needs its
// own port.
//
// A connection may overtake its knock. It cannot be deferred as a packet can, so
// the Guard waits briefly for a knock of its source. With udp-seq the client
// pauses between the parts anyway.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package guard
