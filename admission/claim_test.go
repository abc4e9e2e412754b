package admission

import (
	"errors"
	"testing"
)

func TestAuthenticateReturnsUseOnFailedClaim(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", sessionID(1))
	v.knocks(alice, "ssh", sessionID(2))
	w.want(v.syn(40000, "ssh"), ReasonGrant)
	v.handshakes(40000, "ssh")
	refused := errors.New("disk is gone")
	// Whatever happens while the store writes: the sweep takes no grant away
	// whose use is not spent yet.
	err := w.gate.Authenticate(v.tuple(40000, "ssh"), alice, sessionID(2), func() error {
		w.sweep()
		return refused
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	w.check()
	if err := v.authenticates(40000, "ssh", alice, sessionID(2)); err != nil {
		t.Fatalf("after a failed claim: %v", err)
	}
}

func TestAuthenticateReturnsUseOnEviction(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", "")
	w.want(v.syn(40000, "ssh"), ReasonGrant)
	v.handshakes(40000, "ssh")
	err := w.gate.Authenticate(v.tuple(40000, "ssh"), alice, "", func() error {
		w.gate.Remove(v.tuple(40000, "ssh"))
		return nil
	})
	if !errors.Is(err, ErrFlowClosed) {
		t.Fatal(err)
	}
	w.want(v.syn(40001, "ssh"), ReasonGrant)
	v.enters(40001, "ssh", alice)
}

func TestAuthenticateFailsOnRevokedGrant(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", "")
	w.want(v.syn(40000, "ssh"), ReasonGrant)
	v.handshakes(40000, "ssh")
	var ended Revocation
	err := w.gate.Authenticate(v.tuple(40000, "ssh"), alice, "", func() error {
		ended = w.gate.Revoke(Target{Client: "alice"})
		return nil
	})
	if !errors.Is(err, ErrFlowClosed) || ended.Grants != 1 {
		t.Errorf("%v, after %+v had been ended", err, ended)
	}
	if _, in := w.gate.flows.byTuple[v.tuple(40000, "ssh")]; in {
		t.Error("the flow is in the table")
	}
	w.check()
}

func TestAuthenticateReservesUse(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	v.knocks(alice, "ssh", "")
	for port := uint16(40000); port < 40002; port++ {
		w.want(v.syn(port, "ssh"), ReasonGrant)
		v.handshakes(port, "ssh")
	}
	var inner error
	err := w.gate.Authenticate(v.tuple(40000, "ssh"), alice, "", func() error {
		inner = v.authenticates(40001, "ssh", alice, "")
		return nil
	})
	if err != nil || !errors.Is(inner, ErrNoGrant) {
		t.Errorf("%v, %v", err, inner)
	}
}

func TestGateReportsUnknownFlow(t *testing.T) {
	w := newHarness(t)
	v := w.at("192.0.2.1")
	tuple := v.tuple(40000, "ssh")
	if err := w.gate.HandshakeDone(tuple); !errors.Is(err, ErrFlowClosed) {
		t.Error(err)
	}
	if err := w.gate.Authenticate(tuple, alice, "", ok); !errors.Is(err, ErrFlowClosed) {
		t.Error(err)
	}
	w.gate.Remove(tuple)
	w.gate.RelayDone(tuple)
	v.knocks(alice, "ssh", "")
	w.want(v.syn(40000, "ssh"), ReasonGrant)
	if err := w.gate.Authenticate(tuple, alice, "", ok); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("authenticated before the handshake: %v", err)
	}
	v.handshakes(40000, "ssh")
	if err := w.gate.HandshakeDone(tuple); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("completed twice: %v", err)
	}
	if err := v.authenticates(40000, "ssh", alice, ""); err != nil {
		t.Fatal(err)
	}
	if err := v.authenticates(40000, "ssh", alice, ""); !errors.Is(err, ErrFlowClosed) {
		t.Errorf("authenticated twice: %v", err)
	}
}
