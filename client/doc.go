// Package client is the other side of the gate: it knocks, dials and
// authenticates, so that a program reaches a hidden service as if it were open.
//
//	id, err := protocol.NewClient("alice", secret)
//	d := &client.Dialer{Identity: id, Auth: auth.Client{Proof: true}}
//	conn, err := d.DialContext(ctx, "tcp", "10.77.0.1:22")
//
// # A dial
//
// A gate never says no. A knock that was lost, one that was refused, and an
// address where nobody lives look alike from here: nothing comes back. And the
// kernel, which repeats a lost SYN after a second, then three, then seven, does
// not know that it is the knock which should be repeated. So [Dialer.DialContext]
// does not wait. It makes attempts, each a fresh knock and a connection of its
// own, begun a little later than the one before and each given a little longer,
// and takes the first connection that is established, whichever attempt it is of:
//
//	0 s     0.5        1.25              2.4                             time
//	 |-------|----------|-----------------|--------------------------------->
//	 1 knock, SYN ...... (kernel) SYN .............................. called back
//	     '-- lost
//	         2 knock, SYN .......................................... called back
//	                '-- lost
//	                    3 knock, SYN --> SYN-ACK --> authenticate --> proof: taken
//
// Where a name has several addresses, attempts go round them as RFC 8305 (happy
// eyeballs) has it: IPv6 and IPv4 by turns, the next one after 250 ms, and at
// once when one fails for good, as by a refused connection. A knock always goes
// to the very address that its attempt dials, and comes from the one that the
// connection will come from. When every address has failed for good, the dial
// has too, at once.
//
// Then the connection is authenticated. Its SYN may have been let in by a grant that
// another dial from this address left, while the knock of its own was lost, for
// which the gateway then waits: as long as no proof comes, that is sent again, after
// 300 ms for the first time, with the same session id and another nonce.
//
// If the authentication fails in a way that lost packets could explain, all of it is
// done once more, with a new session: no dial costs more than two failed
// authentications, of which a gateway takes few before it bans an address. Whoever
// sends a wrong proof does not know the secret, and is never asked again.
//
// Every connection has its own session id, so that many of them can be made at
// once. All attempts of one dial share it, because the gate cannot tell them
// apart: the first one's SYN, repeated by the kernel, may be let in by the
// second one's knock, and must then authenticate with what that one said. Every
// knock has its own nonce, and is good once. Where several were heard, the grants
// that were not needed run out at the gateway, after 15 s by default.
//
// # How to knock
//
// How to knock is a [Dialer]'s Method. The udp methods need nothing; the SYN
// methods write packets of their own, which takes Linux and a capability, and
// fail with a [*RawSocketError] where that is not to be had.
//
// A tcp-syn-seq says nothing but client, service and time slot: a retry within a
// slot repeats the very same parts, of which the gate ignores those that it has,
// and so completes a sequence that lost some. A gate takes one sequence of a client for a service in each slot. A
// second connection within the slot waits for the next one: give such a Dialer a
// Timeout that is longer than the slot.
//
// # Whose dialer it can be
//
// DialContext has the signature that Go's network libraries ask for:
//
//	net/http      &http.Transport{DialContext: d.DialContext}
//	grpc          grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) {
//	                  return d.DialContext(ctx, "tcp", a) }), with the target passthrough:///host:port
//	pgx           config.DialFunc = d.DialContext, of a pgx.ConnConfig or a pgxpool's
//	database/sql  stdlib.OpenDB(*config), with that pgx config
//	go-redis      redis.Options{Dialer: d.DialContext}
//	crypto/ssh    conn, err := d.DialContext(ctx, "tcp", a), then ssh.NewClientConn(conn, a, config)
//
// Such libraries may resolve names themselves and hand over an address: the knock
// goes where the connection goes either way. pgx does, unless its LookupFunc
// returns the name as it is; with that, happy eyeballs are this package's.
//
// # When it fails
//
// The error is a [*StepError]: which step failed, where, after how many attempts,
// and what to check, the likely causes first. A gate that admits no one is silent, so
// a wrong clock looks like a wrong secret; a clock from before the program was
// built is named ([CheckClock]). [Trace] shows each step as it happens.
package client
