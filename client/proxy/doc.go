// Package proxy lets programs that know proxies reach hidden services by name: SOCKS5 (RFC 1928), HTTP CONNECT
// (RFC 9110, section 9.3.6) and plain HTTP requests on one listener, told apart by the first byte.
//
//	curl, browser, ssh -o ProxyCommand='nc -X 5 ...'
//	    |  0x05                    --> SOCKS5: CONNECT
//	    '--> listener -- first byte
//	       anything else           --> HTTP: CONNECT HOST:PORT, or GET http://HOST/...
//	                                        |
//	                              Dial(ctx, "HOST:PORT"): a knock and a connection of its own
//
// It is no open proxy. Dial decides what can be reached; of an address that is not one of its services it says
// so with an [*UnknownServiceError], and then the client is refused: with 403 and the list of the services'
// names, or SOCKS5's code 0x02.
//
// Nobody authenticates to it, as is usual for a proxy on one's own machine: whoever can connect to the listener
// passes through with the key that Dial uses. Listen on a loopback address.
package proxy
