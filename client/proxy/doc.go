// Package proxy lets programs with proxy support reach hidden services by name:
// SOCKS5 (RFC 1928), HTTP CONNECT (RFC 9110, section 9.3.6) and plain HTTP
// requests on one listener, distinguished by the first byte.
//
//	curl, browser, ssh -o ProxyCommand='nc -X 5 ...'
//	    |  0x05                    --> SOCKS5: CONNECT
//	    '--> listener -- first byte
//	       anything else           --> HTTP: CONNECT HOST:PORT, or GET http://HOST/...
//	                                        |
//	                              Dial(ctx, "HOST:PORT"): its own knock and connection
//
// It is not an open proxy. Dial decides what can be reached. For an address
// that is not one of its services, it returns an [*UnknownServiceError], and
// the client is refused: with status 403 and the list of the services' names,
// or with SOCKS5 reply 0x02.
//
// Clients do not authenticate, as is usual for a proxy on the local machine: any
// process that can connect to the listener has the access of the key that Dial
// uses. Listen on a loopback address.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package proxy
