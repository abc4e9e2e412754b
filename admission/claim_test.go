package admission

import (
	"errors"
	"testing"
)

func TestAuthenticateReturnsUseOnFailedClaim(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", sessionID(1))
	peer.mustKnock(alice, "ssh", sessionID(2))
	h.want(peer.syn(40000, "ssh"), ReasonGrant)
	peer.mustHandshake(40000, "ssh")
	refused := errors.New("disk is gone")
	// While the store writes, the sweep must not remove a grant whose use is
	// not yet committed.
	err := h.gate.Authenticate(peer.tuple(40000, "ssh"), alice, sessionID(2), func() error {
		h.sweep()
		return refused
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	h.check()
	if err := peer.authenticate(40000, "ssh", alice, sessionID(2)); err != nil {
		t.Fatalf("after a failed claim: %v", err)
	}
}

func TestAuthenticateReturnsUseOnEviction(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", "")
	h.want(peer.syn(40000, "ssh"), ReasonGrant)
	peer.mustHandshake(40000, "ssh")
	err := h.gate.Authenticate(peer.tuple(40000, "ssh"), alice, "", func() error {
		h.gate.Remove(peer.tuple(40000, "ssh"))
		return nil
	})
	if !errors.Is(err, ErrFlowClosed) {
		t.Fatal(err)
	}
	h.want(peer.syn(40001, "ssh"), ReasonGrant)
	peer.mustEnter(40001, "ssh", alice)
}

func TestAuthenticateFailsOnRevokedGrant(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", "")
	h.want(peer.syn(40000, "ssh"), ReasonGrant)
	peer.mustHandshake(40000, "ssh")
	var ended Revocation
	err := h.gate.Authenticate(peer.tuple(40000, "ssh"), alice, "", func() error {
		ended = h.gate.Revoke(Target{Client: "alice"})
		return nil
	})
	if !errors.Is(err, ErrFlowClosed) || ended.Grants != 1 {
		t.Errorf("%v, after %+v had been ended", err, ended)
	}
	if _, in := h.gate.flows.byTuple[peer.tuple(40000, "ssh")]; in {
		t.Error("the flow is in the table")
	}
	h.check()
}

func TestAuthenticateReservesUse(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	peer.mustKnock(alice, "ssh", "")
	for port := uint16(40000); port < 40002; port++ {
		h.want(peer.syn(port, "ssh"), ReasonGrant)
		peer.mustHandshake(port, "ssh")
	}
	var inner error
	err := h.gate.Authenticate(peer.tuple(40000, "ssh"), alice, "", func() error {
		inner = peer.authenticate(40001, "ssh", alice, "")
		return nil
	})
	if err != nil || !errors.Is(inner, ErrNoGrant) {
		t.Errorf("%v, %v", err, inner)
	}
}

func TestGateReportsUnknownFlow(t *testing.T) {
	h := newHarness(t)
	peer := h.peer("192.0.2.1")
	tuple := peer.tuple(40000, "ssh")
	if err := h.gate.HandshakeDone(tuple); !errors.Is(err, ErrFlowClosed) {
		t.Error(err)
	}
	if err := h.gate.Authenticate(tuple, alice, "", succeed); !errors.Is(err, ErrFlowClosed) {
		t.Error(err)
	}
	h.gate.Remove(tuple)
	h.gate.RelayDone(tuple)
	peer.mustKnock(alice, "ssh", "")
	h.want(peer.syn(40000, "ssh"), ReasonGrant)
	if err := h.gate.Authenticate(tuple, alice, "", succeed); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("authenticated before the handshake: %v", err)
	}
	peer.mustHandshake(40000, "ssh")
	if err := h.gate.HandshakeDone(tuple); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("completed twice: %v", err)
	}
	if err := peer.authenticate(40000, "ssh", alice, ""); err != nil {
		t.Fatal(err)
	}
	if err := peer.authenticate(40000, "ssh", alice, ""); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("authenticated twice: %v", err)
	}
}
