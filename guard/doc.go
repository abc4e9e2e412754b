// Package guard is the knock gate without a TUN device: knocks are taken on an ordinary UDP socket, and
// what they earn guards any net.Listener. It needs no privileges and runs on every system, in a container
// as well as on Windows.
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
// A knock is never answered, and the same gate decides about it as in package gateway: its budgets,
// replay store, grants, hours and bans are those of package admission, and clients are those of package
// client.
//
// # What it does not hide
//
// The port. The host's own stack accepts connections before anybody asks here, so a scanner sees that
// there is a service. What a stranger gets from it:
//
//	ModeAuth, ModeKnockAuth  nothing but a reset, at the authentication's deadline, always alike
//	ModeKnock                nothing but a reset, a quarter of a second after connecting, at the most a
//	                         whole one where a knock of that address is being decided
//
// The host also answers for the UDP port's neighbours: a scanner that compares may see that the knocks'
// port alone sends no ICMP. Where the port itself must not be there, use package gateway.
//
// # Addresses
//
// A grant is for the address that the knock came from, so both sockets must see the client's own: behind
// a proxy that puts its address there, all clients are one source. A UDP socket of all addresses does not
// tell which of them a datagram was sent to. A knock names its service by the protected port that its
// MACs are keyed with, and is good for the service at whichever of the host's addresses it is guarded;
// so each service of a Guard has a port of its own.
//
// A connection may overtake its knock, and cannot be put back as a packet can: it waits a moment for one,
// see admission.Gate.Connected. With udp-seq the client waits between the parts anyway.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package guard
