// Package routing leads packets of protected addresses to the gateway's device,
// and keeps the addresses silent when there is no gateway.
//
// Routes do so for prefixes, HostPorts for ports of the host's own addresses,
// and a ProtectedSet combines both. They install routes, blackholes and policy
// rules; a PortReservation additionally holds sockets on the ports. Verify
// finds what another process has removed since, and a RouteMonitor waits for
// such changes.
//
// All of this is supported on Linux only. On other systems the operator sets the
// routes, and the functions do nothing.
package routing
