package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/observe"
	"github.com/knockgw/knockgw/internal/replay"
)

// failures is how many failed authentications the test reports for one source:
// several times ban.after.
const failures = 100

func TestGatewayBansOnlyForPeerFailures(t *testing.T) {
	for r := range auth.Result(auth.NumResults) {
		for _, cause := range []error{nil, admission.ErrNoGrant, admission.ErrLimitExceeded, admission.ErrOutsideSchedule, admission.ErrFlowClosed,
			fmt.Errorf("%w: no space left on device", replay.ErrUnrecorded), errors.New("disk is gone")} {
			in, _ := refusingUpstream(t)
			from := admission.TupleOf(netip.MustParseAddrPort("192.0.2.7:40000"), netip.MustParseAddrPort("10.77.0.1:8443"))
			// Only a completed handshake counts.
			if _, err := in.gate.AdmitConn(t.Context(), from); err != nil {
				t.Fatal(err)
			}
			for range failures {
				in.authFailed(observe.AuthEvent{Service: "web", Tuple: from, Result: r, Err: &auth.Error{Result: r, Err: cause}})
			}
			if banned := len(in.gate.Bans(1)) > 0; banned != r.PeerFailed() {
				t.Errorf("%v, %v: banned %v", r, cause, banned)
			}
			if failed := in.observer.Health.StoreWritable(in.replay.Store) != nil; failed != (r == auth.ResultStoreFailed) {
				t.Errorf("%v: the store counts as failed: %v", r, failed)
			}
		}
	}
}

func TestGatewayNotReadyAfterStoreFailure(t *testing.T) {
	in, _ := refusingUpstream(t)
	if err := in.observer.Health.StoreWritable(in.replay.Store); err != nil {
		t.Fatal(err)
	}
	in.authFailed(observe.AuthEvent{Service: "ssh", Result: auth.ResultStoreFailed, Err: &auth.Error{Result: auth.ResultStoreFailed, Err: replay.ErrUnrecorded}})
	if in.observer.Health.StoreWritable(in.replay.Store) == nil {
		t.Error("ready")
	}
}
