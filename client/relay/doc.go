// Package relay copies bytes between pairs of connections, in both directions,
// until both directions have ended. [Copy] does so for one pair. [Serve] accepts
// the connections of a local listener and dials the service once for each.
//
//	application                                    service
//	       ---- bytes ----------- up ----------------->
//	       <--------------------- down ---- bytes -----
//	       ---- FIN ---> CloseWrite; down continues --->
//	       ---- reset --> both connections are reset -->
//
// An end of stream is passed on as an end of stream, and an error as a reset, so
// that a reader never mistakes a truncated stream for a complete one. Where the
// system has no reset, the connection is closed.
//
// The package does not know about knocks. To send one for each connection, dial
// with the DialContext method of a client.Dialer or of a profile.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package relay
