// Package client reaches services behind a gateway: it knocks, dials and
// authenticates, so that a program uses a hidden service as if it were open.
//
//	id, err := protocol.NewClient("alice", secret)
//	d := &client.Dialer{Identity: id, Auth: auth.Client{Proof: true}}
//	conn, err := d.DialContext(ctx, "tcp", "10.77.0.1:22")
//
// # Dialing
//
// A gateway never refuses: a knock that was lost, a knock that was rejected and
// an unused address look the same to a client, since no answer comes. The
// kernel, which repeats a lost SYN after 1, 3 and 7 seconds, does not know that
// the knock must be repeated. So [Dialer.DialContext] does not wait for one
// attempt to fail. It makes several, each with a fresh knock and its own
// connection, started a little later than the previous one and with a little
// more time. It returns the first connection that is established, whichever
// attempt that belongs to:
//
//	0 s     0.5        1.25              2.4                             time
//	 |-------|----------|-----------------|--------------------------------->
//	 1 knock, SYN ...... (kernel) SYN .............................. canceled
//	     '-- lost
//	         2 knock, SYN .......................................... canceled
//	                '-- lost
//	                    3 knock, SYN --> SYN-ACK --> authenticate --> proof: done
//
// If a name has several addresses, attempts rotate through them as in RFC 8305
// (happy eyeballs): IPv6 and IPv4 alternate, the next address starts after 250
// ms, and at once when one fails permanently, such as with a refused
// connection. A knock always goes to the address that its attempt dials, and
// comes from the address that the connection will come from. When every address
// has failed permanently, so does the dial, at once.
//
// Then the connection is authenticated. A grant that another dial from this
// address left may have admitted its SYN while its own knock was lost; the
// gateway then waits for that knock. So the knock is sent again until a proof
// arrives, after 300 ms for the first time, with the same session id and a new
// nonce.
//
// If the authentication fails in a way that lost packets can explain, the dial
// is repeated once, with a new session. A dial costs at most two failed
// authentications, because a gateway bans an address after a few. A host that
// sends a wrong proof does not know the secret, and is not tried again.
//
// Every connection has its own session id, so that many can be made
// concurrently. All attempts of one dial share it, because the gateway cannot
// tell them apart: the knock of the second attempt may admit the SYN of the
// first, repeated by the kernel, which must then authenticate with the session
// of that knock. Every knock has its own nonce and is valid once. If the
// gateway received several, the unused grants expire there, after 15 s by
// default.
//
// # Knock methods
//
// The Method of a [Dialer] selects how it knocks. The UDP methods have no
// requirements. The SYN methods write raw packets, which needs Linux and a
// capability, and fail with a [*RawSocketError] where that is not available.
//
// A tcp-syn-seq knock contains only the client, the service and the time slot.
// A retry within a slot repeats the same parts; the gateway ignores those that
// it has, so that a retry completes a sequence that lost some. A gateway
// accepts one sequence per client, service and slot. A second connection within
// the slot waits for the next one: give such a Dialer a Timeout that is longer
// than the slot.
//
// # Use with other libraries
//
// DialContext has the signature that Go's network libraries expect:
//
//	net/http      &http.Transport{DialContext: d.DialContext}
//	grpc          grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) {
//	                  return d.DialContext(ctx, "tcp", a) }), with the target passthrough:///host:port
//	pgx           config.DialFunc = d.DialContext, of a pgx.ConnConfig or a pgxpool's
//	database/sql  stdlib.OpenDB(*config), with that pgx config
//	go-redis      redis.Options{Dialer: d.DialContext}
//	crypto/ssh    conn, err := d.DialContext(ctx, "tcp", a), then ssh.NewClientConn(conn, a, config)
//
// Some libraries resolve names themselves and pass an address; the knock goes
// to the address of the connection in either case. pgx resolves names unless
// its LookupFunc returns the name unchanged; with that, this package's happy
// eyeballs apply.
//
// # Errors
//
// The error of a dial is a [*StepError]: which step failed, where, after how
// many attempts, and what to check, the likely causes first. A gateway that
// admits nothing is silent, so that a wrong clock looks like a wrong secret; a
// clock that is behind the time of the build is reported ([CheckClock]).
// [Trace] shows each step as it happens. After an authentication,
// [Dialer.DetectEarlyClose] reports a service that is down behind the gateway.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package client
