// Package relay joins two connections: bytes that come from one go to the other, both ways, until both ways
// have ended. [Join] does it for two connections, [Serve] for every connection of a local listener, each with
// one to a service that it dials for it.
//
//	near (the application)                    far (the service)
//	       ---- bytes ----------- up ----------------->
//	       <--------------------- down ---- bytes -----
//	       ---- end (FIN) -> CloseWrite: down goes on ->
//	       ---- reset ----> everything ends, reset --->
//
// An end is passed on as an end, and an error as an error: whoever reads from a connection that was joined to
// one that broke off sees a reset where the system has such a thing, and does not take half of the bytes for
// all of them.
//
// Nothing here knows what a knock is. A fresh knock for each connection is the business of the function that
// dials: a client.Dialer's or a profile's DialContext.
package relay
