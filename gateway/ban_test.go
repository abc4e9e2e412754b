package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/replay"
	"github.com/knockgw/knockgw/packet"
)

// failures is how many failed authentications the test of bans reports of one source: several times ban.after.
const failures = 100

func TestGatewayBansForThePeersFailuresOnly(t *testing.T) {
	for r := range auth.Result(auth.NumResults) {
		for _, cause := range []error{nil, admission.ErrNoGrant, admission.ErrTooMany, admission.ErrNotNow, admission.ErrGone,
			fmt.Errorf("%w: no space left on device", replay.ErrUnrecorded), errors.New("disk is gone")} {
			p, _ := refusing(t)
			from := admission.TupleOf(netip.MustParseAddrPort("192.0.2.7:40000"), netip.MustParseAddrPort("10.77.0.1:8443"))
			// Only a completed handshake counts.
			if _, err := p.gate.Connected(t.Context(), from); err != nil {
				t.Fatal(err)
			}
			for range failures {
				p.explain("web", from, &auth.Error{Result: r, Err: cause})
			}
			if banned := len(p.gate.Bans(1)) > 0; banned != r.PeerFailed() {
				t.Errorf("%v, %v: banned %v", r, cause, banned)
			}
			if failed := p.g.health.storeFailed.Load() != 0; failed != (r == auth.ResultStoreFailed) {
				t.Errorf("%v: the store counts as failed: %v", r, failed)
			}
		}
	}
}

func TestGatewayIsNotReadyWhileAuthenticationsCannotBeRecorded(t *testing.T) {
	p, _ := refusing(t)
	if err := p.storeWritable(); err != nil {
		t.Fatal(err)
	}
	p.explain("ssh", packet.Tuple{}, &auth.Error{Result: auth.ResultStoreFailed, Err: replay.ErrUnrecorded})
	if p.storeWritable() == nil {
		t.Error("ready")
	}
}
