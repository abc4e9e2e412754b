package protocol_test

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// The hints of a slot are computed in advance; one lookup finds the client of a
// knock.
func Example_knockV2() {
	alice, _ := protocol.NewClient("alice", []byte("0123456789abcdef0123456789abcdef"))
	const (
		gateway = "gw.example.net" // configured on both sides, never sent
		port    = 22               // the service's, not the one that the datagram is sent to
	)
	now := time.Now() // one reading of the clock for slot and time
	slot := protocol.Slot(now, 30*time.Second)
	datagram, err := protocol.AppendKnockV2(nil, alice, gateway, port, slot, &protocol.KnockV2Message{
		Time:      now.UnixMilli(),
		SessionID: [16]byte([]byte("sixteen bytes or")),
		Source:    netip.MustParseAddr("192.0.2.7"),
	}, rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}

	type expected struct {
		client *protocol.Client
		slot   int64
	}
	scratch := protocol.NewScratch() // one for each goroutine
	table := map[protocol.HintV2]expected{}
	for _, s := range []int64{slot - 1, slot, slot + 1} {
		table[alice.KnockV2Hint(scratch, gateway, port, s)] = expected{alice, s}
	}

	knock, err := protocol.ParseKnockV2(datagram)
	if err != nil {
		return // in silence
	}
	found, ok := table[knock.Hint()]
	if !ok {
		return // in silence
	}
	message, err := knock.Open(scratch, found.client, gateway, port, found.slot)
	fmt.Println(found.client.ID(), len(message.Session()), err)
	fmt.Println(message.AllowsSource(netip.MustParseAddr("192.0.2.7")), message.AllowsSource(netip.MustParseAddr("192.0.2.8")))
	// Now the time window, and then a claim of (client, knock.Nonce()).

	// Output:
	// alice 16 <nil>
	// true false
}
