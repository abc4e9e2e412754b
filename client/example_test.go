package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/protocol"
)

// greet is a service that sends a greeting and closes.
func greet(conn net.Conn) { _, _ = io.WriteString(conn, "hello from behind the gate\n") }

// One call knocks, connects, and authenticates both sides.
func Example() {
	gate := newTestGate(greet)
	defer gate.close()

	alice, err := protocol.NewClient("alice", []byte(exampleSecret))
	if err != nil {
		fmt.Println(err)
		return
	}
	d := &client.Dialer{
		Identity:  alice,
		KnockPort: gate.dialer().KnockPort, // not needed if the gateway uses the default, 62201
		Auth:      auth.Client{Proof: true},
	}
	conn, err := d.DialContext(context.Background(), "tcp", gate.address())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	said, err := io.ReadAll(conn)
	fmt.Printf("%s%v\n", said, err)
	// Output:
	// hello from behind the gate
	// <nil>
}

// An http.Client for a hidden web server. Each connection of its pool has its own
// knock.
func ExampleDialer_DialContext() {
	gate := newTestGate(nil)
	defer gate.close()
	hidden := http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "you asked for", r.URL.Path)
		}),
		ReadHeaderTimeout: time.Second,
	}
	gate.running.Go(func() { _ = hidden.Serve(gate.listener) })
	defer func() { _ = hidden.Close() }()

	transport := &http.Transport{DialContext: gate.dialer().DialContext}
	defer transport.CloseIdleConnections()
	web := http.Client{Transport: transport}
	response, err := web.Get("http://" + gate.address() + "/report")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	fmt.Printf("%s%v\n", body, err)
	// Output:
	// you asked for /report
	// <nil>
}

// A knock for a connection that is made separately. Its authentication must carry
// the session id of the knock.
func ExampleDialer_Knock() {
	gate := newTestGate(greet)
	defer gate.close()
	ctx := context.Background()

	d := gate.dialer()
	session, err := d.NewSession()
	if err != nil {
		fmt.Println(err)
		return
	}
	target := netip.MustParseAddrPort(gate.address())
	if err := d.Knock(ctx, target, session); err != nil {
		fmt.Println(err)
		return
	}
	conn, err := net.Dial("tcp", target.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	who := auth.Client{Identity: d.Identity, Port: target.Port(), SessionID: session, Proof: true}
	fmt.Println(who.Handshake(ctx, conn))
	// Output: <nil>
}

// A session id that is chosen in advance, so that the client's log can be matched
// with the gateway's. Such a Dialer is for one connection.
func ExampleDialer_NewSession() {
	gate := newTestGate(greet)
	defer gate.close()

	d := gate.dialer()
	var err error
	if d.SessionID, err = d.NewSession(); err != nil {
		fmt.Println(err)
		return
	}
	conn, err := d.DialContext(context.Background(), "tcp", gate.address())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(d.SessionID), conn.Close())
	// Output: 16 <nil>
}

// The addresses that DialContext tries, in order.
func ExampleDialer_ResolveAll() {
	var d client.Dialer
	fmt.Println(d.ResolveAll(context.Background(), "tcp", "10.77.0.1:ssh"))
	fmt.Println(d.ResolveAll(context.Background(), "tcp6", "[fd77::1]:22"))
	// Output:
	// [10.77.0.1:22] <nil>
	// [[fd77::1]:22] <nil>
}

// The address to knock at.
func ExampleResolve() {
	fmt.Println(client.Resolve(context.Background(), "tcp", "10.77.0.1:22"))
	// Output: 10.77.0.1:22 <nil>
}

// A host whose clock starts in 1970 can report that before it knocks in vain.
func ExampleCheckClock() {
	fmt.Println(client.CheckClock(time.Unix(0, 0)) != nil, client.CheckClock(time.Now()))
	// Output: true <nil>
}

// The steps of a dial.
func ExampleTrace() {
	gate := newTestGate(greet)
	defer gate.close()

	d := gate.dialer()
	d.Trace = &client.Trace{
		Resolved:      func(addrs []netip.AddrPort) { fmt.Println("addresses:", len(addrs)) },
		Knocked:       func(a client.Attempt, err error) { fmt.Println("knock", a.Number, err) },
		Connected:     func(a client.Attempt, err error) { fmt.Println("connection", a.Number, err) },
		Authenticated: func(a client.Attempt, err error) { fmt.Println("proof", a.Number, err, a.Elapsed > 0) },
	}
	conn, err := d.DialContext(context.Background(), "tcp", gate.address())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(conn.Close())
	// Output:
	// addresses: 1
	// knock 1 <nil>
	// connection 1 <nil>
	// proof 1 <nil> true
	// <nil>
}

// Which step failed, and why.
func ExampleStepError() {
	gate := newTestGate(greet)
	d, address := gate.dialer(), gate.address()
	gate.close() // now nothing listens there

	_, err := d.DialContext(context.Background(), "tcp", address)
	var failed *client.StepError
	if errors.As(err, &failed) {
		switch failed.Step {
		case client.StepResolve:
			fmt.Println("there is no such name")
		case client.StepConnect:
			fmt.Println("attempts:", failed.Attempts, "timeout:", failed.Timeout())
		}
	}
	fmt.Println(errors.Is(err, syscall.ECONNREFUSED))

	silence := &client.StepError{
		Step: client.StepConnect, Address: "10.77.0.1:22", Err: context.DeadlineExceeded, Elapsed: 15 * time.Second,
	}
	fmt.Println(silence.Error())
	fmt.Println(silence.Advice())
	// Output:
	// attempts: 1 timeout: false
	// true
	// connect: 10.77.0.1:22 did not answer in 15 s; check the address, that the gateway runs and packets for the address reach it, and whether the service requires a knock
	// check the address, that the gateway runs and packets for the address reach it, and whether the service requires a knock
}

// A knock in five parts, for a gateway with the same setting.
func ExampleSequence() {
	gate := newTestGate(greet)
	defer gate.close()

	d := gate.dialer()
	d.Method = protocol.MethodUDPSeq
	d.Sequence = client.Sequence{Length: 5, Gap: 10 * time.Millisecond}
	conn, err := d.DialContext(context.Background(), "tcp", gate.address())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(conn.Close())
	// Output: <nil>
}

// Without the capability to send raw packets, a SYN knock fails and names the
// remedy.
func ExampleRawSocketError() {
	err := error(&client.RawSocketError{Err: fs.ErrPermission})
	fmt.Println(err)
	fmt.Println(errors.Is(err, fs.ErrPermission))
	// Output:
	// send a SYN knock: permission denied; give this program the capability CAP_NET_RAW (setcap cap_net_raw+ep), run it as root, or use one of the udp methods
	// true
}

// Invalid options are reported before anything is sent.
func Example_badOption() {
	alice, err := protocol.NewClient("alice", []byte(exampleSecret))
	if err != nil {
		fmt.Println(err)
		return
	}
	d := &client.Dialer{Identity: alice, Method: protocol.MethodUDPSeq, Sequence: client.Sequence{Length: 9}}
	_, err = d.DialContext(context.Background(), "tcp", "10.77.0.1:22")
	fmt.Println(err)
	fmt.Println(errors.Is(err, client.ErrOption))
	// Output:
	// knock: 10.77.0.1:22: bad option: a udp-seq sequence has 2 to 8 parts, not 9
	// true
}

// A log of the attempts of a dial.
func ExampleAttempt() {
	gate := newTestGate(greet)
	defer gate.close()

	d := gate.dialer()
	d.Trace = &client.Trace{
		Connected: func(a client.Attempt, err error) {
			fmt.Println(a.Number, a.Target.Addr(), a.Elapsed > 0, err)
		},
	}
	conn, err := d.DialContext(context.Background(), "tcp", gate.address())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(conn.Close())
	// Output:
	// 1 127.0.0.1 true <nil>
	// <nil>
}

// A timeout may be worth a retry.
func ExampleStepError_Timeout() {
	err := error(&client.StepError{Step: client.StepConnect, Address: "10.77.0.1:22", Err: context.DeadlineExceeded})
	var failed net.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Timeout())
	}
	// Output: true
}

// A failure other than a timeout is permanent.
func ExampleStepError_Temporary() {
	silence := &client.StepError{Step: client.StepConnect, Err: context.DeadlineExceeded}
	wrong := &client.StepError{Step: client.StepAuthenticate, Err: &auth.Error{Result: auth.ResultProof}}
	fmt.Println(silence.Temporary(), wrong.Temporary())
	// Output: true false
}

// The cause of a StepError.
func ExampleStepError_Unwrap() {
	err := &client.StepError{Step: client.StepAuthenticate, Err: &auth.Error{Result: auth.ResultProof}}
	fmt.Println(err.Unwrap())
	fmt.Println(auth.ResultOf(err))
	// Output:
	// auth: handshake failed: proof
	// proof
}

// The error of the system.
func ExampleRawSocketError_Unwrap() {
	err := &client.RawSocketError{Err: errors.ErrUnsupported}
	fmt.Println(err.Unwrap() == errors.ErrUnsupported)
	// Output: true
}

// A gateway whose service is down accepts the authentication, and then closes the
// connection.
func ExampleDialer_DetectEarlyClose() {
	gate := newTestGate(func(net.Conn) {}) // closes every connection
	defer gate.close()

	d := gate.dialer()
	conn, err := d.DialContext(context.Background(), "tcp", gate.address())
	if err != nil {
		fmt.Println(err)
		return
	}
	conn = d.DetectEarlyClose(conn)
	defer func() { _ = conn.Close() }()

	_, err = io.ReadAll(conn)
	var early *client.EarlyCloseError
	fmt.Println(errors.As(err, &early))
	fmt.Println(early.Proven, early.Late, early.Unwrap())
	fmt.Println(early.Error())
	// Output:
	// true
	// true false unexpected EOF
	// the gateway accepted the authentication and then closed the connection; check that the service behind it runs
}

// A relay reports the error of a connection that it owned: EarlyClose interprets it.
func ExampleDialer_EarlyClose() {
	d := &client.Dialer{Auth: auth.Client{Proof: true}}
	fmt.Println(d.EarlyClose(2*time.Minute, syscall.ECONNRESET).Late)
	// Output: true
}
