package protocol_test

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// A client knocks; a gateway finds the client.
func Example_knock() {
	secret := []byte("0123456789abcdef0123456789abcdef")
	alice, err := protocol.NewClient("alice", secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	const port = 22 // the service's, not the one that the datagram is sent to
	datagram, err := protocol.AppendKnock(nil, alice, port, &protocol.KnockMessage{
		Method:    protocol.MethodUDP,
		Time:      time.Now().UnixMilli(),
		SessionID: []byte("sixteen bytes or"),
	}, rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}

	scratch := protocol.NewScratch() // one for each goroutine
	knock, err := protocol.ParseKnock(datagram)
	if err != nil {
		return // in silence
	}
	for _, candidate := range []*protocol.Client{alice} {
		if !knock.Match(scratch, candidate, port) {
			continue
		}
		message, err := knock.Open(scratch, candidate, port)
		fmt.Println(candidate.ID(), message.Method, err)
		// Now the time window, and then a claim of (client, knock.Nonce()).
	}
	// Output: alice udp <nil>
}

// A frame v1 arrives in pieces: ParseFrameV1 returns how much to read.
func ExampleParseFrameV1() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	stream, _ := protocol.AppendFrameV1(nil, alice, 22, &protocol.Message{WantProof: true}, rand.Reader)

	_, need, err := protocol.ParseFrameV1(stream[:10], protocol.DefaultMaxFrame)
	fmt.Println(need, err == protocol.ErrNeedMore)
	_, need, err = protocol.ParseFrameV1(stream[:need], protocol.DefaultMaxFrame)
	fmt.Println(need, err == protocol.ErrNeedMore)
	frame, _, err := protocol.ParseFrameV1(stream[:need], protocol.DefaultMaxFrame)
	fmt.Println(err)

	message, err := frame.Open(protocol.NewScratch(), alice, 22)
	fmt.Println(message.WantProof, err)
	// Output:
	// 29 true
	// 75 true
	// <nil>
	// true <nil>
}

// The fields of a SYN knock are computed once per slot and looked up.
func ExampleClient_SYN() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef"))
	scratch := protocol.NewScratch()
	now := time.Unix(1790000000, 0)
	slot := protocol.Slot(now, 30*time.Second)

	table := map[protocol.SYNFields]*protocol.Client{}
	for _, s := range []int64{slot - 1, slot, slot + 1} {
		table[alice.SYN(scratch, 22, s)] = alice
	}
	fmt.Println(slot, table[alice.SYN(scratch, 22, slot)].ID())
	// Output: 59666666 alice
}
