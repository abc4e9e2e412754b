package auth_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// The client's ID; "" for the zero Peer.
func ExamplePeer_ClientID() {
	alice := identity("alice", "0123456789abcdef")
	fmt.Printf("%q %q\n", auth.Peer{Client: alice}.ClientID(), auth.Peer{}.ClientID())
	// Output: "alice" ""
}

// The method with which the client says it knocked.
func ExamplePeer_Method() {
	conn := accepted(&auth.Client{Method: protocol.MethodUDPSeq})
	defer func() { _ = conn.Close() }()
	peer, _ := auth.PeerOf(conn)
	fmt.Println(peer.Method())
	// Output: udp-seq
}

// The session ID of a knock and its connection, to correlate both in logs.
func ExamplePeer_SessionID() {
	conn := accepted(&auth.Client{SessionID: []byte("16 bytes or more")})
	defer func() { _ = conn.Close() }()
	peer, _ := auth.PeerOf(conn)
	fmt.Printf("%s\n", peer.SessionID())
	// Output: 16 bytes or more
}

// Data of the application, sealed with the rest.
func ExamplePeer_Extensions() {
	conn := accepted(&auth.Client{Extensions: []byte("release=7")})
	defer func() { _ = conn.Close() }()
	peer, _ := auth.PeerOf(conn)
	fmt.Printf("%s\n", peer.Extensions())
	// Output: release=7
}

// The Peer of a connection.
func ExampleConn_Peer() {
	conn := accepted(&auth.Client{Protocol: auth.V1}).(*auth.Conn)
	defer func() { _ = conn.Close() }()
	peer := conn.Peer()
	fmt.Println(peer.ClientID(), peer.Protocol, peer.ClockOffset.Abs() < time.Minute)
	// Output: alice v1 true
}

// The options of the TCP connection.
func ExampleConn_NetConn() {
	conn := accepted(&auth.Client{}).(*auth.Conn)
	defer func() { _ = conn.Close() }()
	tcp, ok := conn.NetConn().(*net.TCPConn)
	fmt.Println(ok, tcp.SetNoDelay(false))
	// Output: true <nil>
}

// After CloseWrite the peer reads the end of the stream and may still answer.
func ExampleConn_CloseWrite() {
	alice := identity("alice", "0123456789abcdef")
	listener := listen(alice, auth.ListenerOptions{})
	defer func() { _ = listener.Close() }()
	near := knockless(alice, listener)
	defer func() { _ = near.Close() }()
	conn, err := listener.Accept()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "all of it")
	fmt.Println(conn.(*auth.Conn).CloseWrite())
	said, err := io.ReadAll(near)
	fmt.Println(string(said), err)
	// Output:
	// <nil>
	// all of it <nil>
}

// stale returns the error of a handshake of alice, whose clock is behind.
func stale(behind time.Duration) error {
	alice := identity("alice", "0123456789abcdef")
	now := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
	server := auth.Server{
		Port: 22, Clients: auth.NewSecrets(alice).All(), Deadline: 20 * time.Millisecond,
		Now: func() time.Time { return now },
	}
	_, err := meet(&server, &auth.Client{Identity: alice, Port: 22, Now: func() time.Time { return now.Add(-behind) }})
	return err
}

// The clock offset of a client whose clock is wrong.
func ExampleError() {
	var failure *auth.Error
	if errors.As(stale(2*time.Minute), &failure) {
		fmt.Println(failure.Result, failure.Client.ID(), failure.ClockOffset)
		fmt.Println(failure.Error())
	}
	// Output:
	// stale alice -2m0s
	// auth: handshake failed: stale (clock differs by -2m0s)
}

// The cause of a failure, if there is one.
func ExampleError_Unwrap() {
	full := &auth.Error{Result: auth.ResultFull, Err: auth.ErrReplayFull}
	fmt.Println(full.Unwrap())
	fmt.Println(errors.Is(full, auth.ErrReplayFull))
	// Output:
	// auth: the replay store is full
	// true
}

// A metric label.
func ExampleResult_String() {
	fmt.Println(auth.ResultOK.String(), auth.ResultReplay.String(), auth.Result(200).String())
	// Output: ok replay invalid
}

// The names of the formats.
func ExampleProtocol_String() {
	fmt.Println(auth.V1.String(), auth.V2.String(), (auth.V1 | auth.V2).String())
	// Output: v1 v2 v1|v2
}

// table is a custom Replay. A persistent one could be in a database that all
// servers of a service share. This one grows without bounds, which a real one
// must not.
type table struct {
	mu   sync.Mutex
	rows map[string]time.Time
}

// Claim implements auth.Replay.
func (t *table) Claim(client string, nonce []byte, until time.Time) error {
	key := client + "/" + string(nonce) // a client's id has no slash
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, found := t.rows[key]; found {
		return auth.ErrReplayed
	}
	t.rows[key] = until
	return nil
}

// Several servers that share a Replay.
func ExampleReplay() {
	alice := identity("alice", "0123456789abcdef")
	var seen auth.Replay = &table{rows: make(map[string]time.Time)}
	message := &auth.Client{Identity: alice, Port: 22, Rand: zeros{}} // the same one each time
	for range 2 {
		server := auth.Server{Port: 22, Clients: auth.NewSecrets(alice).All(), Replay: seen, Deadline: 20 * time.Millisecond}
		_, err := meet(&server, message)
		fmt.Println(auth.ResultOf(err))
	}
	// Output:
	// ok
	// replay
}

// zeros make a client that repeats its nonce, for tests only.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// Each nonce of a client can be claimed once while its message is fresh.
func ExampleMemoryReplay_Claim() {
	now := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
	replay := auth.NewMemoryReplay(func() time.Time { return now })
	until := now.Add(time.Minute)
	fmt.Println(replay.Claim("alice", []byte("nonce"), until))
	fmt.Println(replay.Claim("alice", []byte("nonce"), until))
	now = now.Add(time.Hour)
	fmt.Println(replay.Claim("alice", []byte("nonce"), now.Add(time.Minute)))
	// Output:
	// <nil>
	// auth: this message was seen before
	// <nil>
}

// Without hints every secret is tried with every bucket, so only few are
// possible.
func ExampleServer_MaxClients() {
	server := auth.Server{Port: 22, Hint: protocol.HintNone, Buckets: []int{256, 512}, MaxTrials: 64}
	fmt.Println(server.MaxClients())
	// Output: 32
}

func ExampleResult_PeerFailed() {
	fmt.Println(auth.ResultReplay.PeerFailed(), auth.ResultStoreFailed.PeerFailed())
	// Output: true false
}
