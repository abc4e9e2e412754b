package auth

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"slices"
	"time"

	"github.com/knockgw/knockgw/protocol"
)

// The life of a handshake, in the order of the functions below:
//
//	handshake       deadline; watch ctx; authenticate, or discard until the deadline
//	authenticate    the checks, in their order, then the proof
//	open            the first byte selects the format if both are accepted
//	openV1, openV2  read, find the client, open
//	verify          time, proof, authorization, claim

// openedMessage is a message of either format after it was opened.
type openedMessage interface {
	Nonce() []byte
	AppendProof(dst []byte, s *protocol.Scratch, c *protocol.Client, port uint16) []byte
}

// attempt is the memory of one handshake at a time. It is pooled: a flood costs
// one message buffer per open connection and no garbage.
type attempt struct {
	*Server
	ctx        context.Context
	conn       net.Conn
	candidates iter.Seq[*protocol.Client]

	scratch *protocol.Scratch
	buf     []byte // the message as far as it was read; after a failure, discarded input
	n       int    // bytes of the message in buf
}

// HandshakeWith is like Handshake with other candidates than s.Clients. It
// ranges over candidates several times.
func (s *Server) HandshakeWith(ctx context.Context, conn net.Conn, candidates iter.Seq[*protocol.Client]) (Peer, error) {
	return s.handshake(ctx, conn, candidates, time.Now())
}

// handshake is HandshakeWith for a connection that was accepted at start.
func (s *Server) handshake(ctx context.Context, conn net.Conn, candidates iter.Seq[*protocol.Client], start time.Time) (Peer, error) {
	s.once.Do(s.setup)
	deadline := start.Add(s.set.deadline)
	a := s.attempts.Get().(*attempt)
	a.Server, a.ctx, a.conn, a.candidates, a.n = s, ctx, conn, candidates, 0
	defer func() {
		a.Server, a.ctx, a.conn, a.candidates = nil, nil, nil, nil
		s.attempts.Put(a)
	}()

	var peer Peer
	var failure *Error
	unbounded := conn.SetDeadline(deadline)
	stop := interrupt(ctx, conn)
	if unbounded != nil {
		failure = newError(ResultClosed, unbounded)
	} else {
		peer, failure = a.authenticate()
	}
	if failure != nil {
		discard(ctx, conn, a.buf, deadline, unbounded == nil)
		stop()
		return Peer{}, failure
	}
	if !stop() {
		return Peer{}, &Error{Result: ResultCanceled, Client: peer.Client, ClockOffset: peer.ClockOffset, Err: context.Cause(ctx)}
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return Peer{}, &Error{Result: ResultClosed, Client: peer.Client, ClockOffset: peer.ClockOffset, Err: err}
	}
	return peer, nil
}

// authenticate reads and verifies the message and answers with the proof.
func (a *attempt) authenticate() (Peer, *Error) {
	if a.set.invalid != nil {
		return Peer{}, newError(ResultMisconfigured, a.set.invalid)
	}
	peer, message, failure := a.open()
	if failure != nil {
		return Peer{}, failure
	}
	if failure := a.verify(&peer, message.Nonce()); failure != nil {
		failure.Client = peer.Client
		return Peer{}, failure
	}
	if peer.Message.WantProof {
		proof := message.AppendProof(nil, a.scratch, peer.Client, a.Port)
		if _, err := a.conn.Write(proof); err != nil {
			failure := readError(a.ctx, err)
			failure.Client, failure.ClockOffset = peer.Client, peer.ClockOffset
			return Peer{}, failure
		}
	}
	return peer, nil
}

// read reads until the message's first n bytes are in buf, and not one byte
// more.
func (a *attempt) read(n int) *Error {
	if n <= a.n {
		return nil
	}
	got, err := io.ReadFull(a.conn, a.buf[a.n:n])
	a.n += got
	if err != nil {
		return readError(a.ctx, err)
	}
	return nil
}

func (a *attempt) open() (Peer, openedMessage, *Error) {
	if a.candidates == nil {
		a.candidates = func(func(*protocol.Client) bool) {}
	}
	switch a.set.protocols {
	case V1:
		return a.openV1()
	case V2:
		return a.openV2()
	}
	if failure := a.read(1); failure != nil {
		return Peer{}, nil, failure
	}
	if a.buf[0] == protocol.FrameV1Version {
		return a.openV1()
	}
	return a.openV2()
}

func (a *attempt) openV1() (Peer, openedMessage, *Error) {
	var frame protocol.FrameV1
	for {
		var size int
		var err error
		frame, size, err = protocol.ParseFrameV1(a.buf[:a.n], a.set.maxFrame)
		if err == nil {
			break
		}
		if !errors.Is(err, protocol.ErrNeedMore) {
			return Peer{}, nil, openError(err)
		}
		if failure := a.read(size); failure != nil {
			return Peer{}, nil, failure
		}
	}

	// Two IDs may share a secret, and so a hint: the first match may be wrong.
	refusal, trials, found := error(protocol.ErrSealed), 0, Peer{}
	failure := a.eachCandidate(func(c *protocol.Client) bool {
		if !frame.Match(a.scratch, c, a.Port) {
			return false
		}
		if trials++; trials > a.set.maxTrials {
			return true
		}
		m, err := frame.Open(a.scratch, c, a.Port)
		if err != nil {
			refusal = err
			return false
		}
		found = Peer{Client: c, Protocol: V1, Message: m}
		return true
	})

	switch {
	case found.Client != nil:
		return found, &frame, nil
	case failure != nil:
		return Peer{}, nil, failure
	default:
		return Peer{}, nil, openError(refusal)
	}
}

// eachCandidate calls try with each candidate until it returns true, then with
// those of Others.
func (a *attempt) eachCandidate(try func(*protocol.Client) bool) *Error {
	for c := range a.candidates {
		if try(c) {
			return nil
		}
	}
	others, ok := a.others()
	if !ok {
		return newError(ResultLimited, nil)
	}
	for c := range others {
		if try(c) {
			return nil
		}
	}
	return nil
}

func (a *attempt) openV2() (Peer, openedMessage, *Error) {
	// With hints, find the client once and not per bucket: hints precede all
	// buckets.
	candidates, failure := a.matchV2()
	if failure != nil {
		return Peer{}, nil, failure
	}

	refusal, trials := error(protocol.ErrSealed), 0
	for _, bucket := range a.set.buckets {
		if failure := a.read(bucket); failure != nil {
			return Peer{}, nil, failure
		}
		envelope, _, err := protocol.ParseEnvelopeV2(a.buf[:a.n], a.Hint)
		if err != nil {
			return Peer{}, nil, openError(err)
		}
		for _, c := range candidates {
			if trials++; trials > a.set.maxTrials {
				return Peer{}, nil, openError(refusal)
			}
			m, err := envelope.Open(a.scratch, c, a.Port, bucket)
			if err == nil {
				return Peer{Client: c, Protocol: V2, Message: m}, &envelope, nil
			}
			if !errors.Is(err, protocol.ErrSealed) {
				refusal = err // it opened: more significant than failures with other buckets
			}
		}
	}
	return Peer{}, nil, openError(refusal)
}

// matchV2 reads as far as the route hint and returns the candidates that match
// it, or those of Others if none does. Without hints it returns all candidates,
// up to the limit of trials.
func (a *attempt) matchV2() ([]*protocol.Client, *Error) {
	var matched []*protocol.Client
	if a.Hint == protocol.HintNone {
		if failure := a.read(a.set.buckets[0]); failure != nil {
			return nil, failure
		}
		failure := a.eachCandidate(func(c *protocol.Client) bool {
			if !slices.Contains(matched, c) { // Others may contain it again
				matched = append(matched, c)
			}
			return len(matched) > a.set.maxTrials
		})
		return matched, failure
	}

	envelope, need, err := protocol.ParseEnvelopeV2(a.buf[:a.n], a.Hint)
	if errors.Is(err, protocol.ErrNeedMore) {
		if failure := a.read(need); failure != nil {
			return nil, failure
		}
		envelope, _, err = protocol.ParseEnvelopeV2(a.buf[:a.n], a.Hint)
	}
	if err != nil {
		return nil, openError(err)
	}

	for _, candidates := range []func() (iter.Seq[*protocol.Client], bool){a.first, a.others} {
		list, ok := candidates()
		if !ok {
			return nil, newError(ResultLimited, nil)
		}
		for c := range list {
			if envelope.Match(a.scratch, c, a.Port) {
				matched = append(matched, c)
			}
		}
		if matched != nil {
			return matched, nil
		}
	}
	return nil, openError(protocol.ErrSealed)
}

// first returns the candidates to try first.
func (a *attempt) first() (iter.Seq[*protocol.Client], bool) { return a.candidates, true }

// others returns the candidates of Others.
func (a *attempt) others() (iter.Seq[*protocol.Client], bool) {
	if a.Others == nil {
		return func(func(*protocol.Client) bool) {}, true
	}
	return a.Others(a.conn)
}

// verify checks a message that opened, and claims its nonce last.
func (a *attempt) verify(peer *Peer, nonce []byte) *Error {
	now := a.set.now()
	diff := protocol.ClockOffset(peer.Message.Time, now)
	peer.Conn, peer.ClockOffset = a.conn, diff
	refuse := func(result Result, cause error) *Error {
		return &Error{Result: result, ClockOffset: diff, Err: cause}
	}
	if diff > a.set.window || diff < -a.set.window {
		return refuse(ResultStale, nil)
	}
	if peer.Message.WantProof && !a.Proof {
		return refuse(ResultProof, nil)
	}

	claimed, claimErr := false, error(nil)
	claim := func() error {
		if !claimed { // a second call must not be a replay of the first
			claimed = true
			claimErr = a.set.replay.Claim(peer.Client.ID(), nonce, now.Add(replayAge(a.set.window)))
		}
		return claimErr
	}

	var err error
	if a.Authorize == nil {
		err = claim()
	} else {
		err = a.Authorize(a.ctx, *peer, claim)
	}
	switch {
	case claimErr != nil:
		return refuse(claimResult(claimErr), claimErr)
	case err != nil && a.ctx.Err() != nil: // Authorize may have waited
		return refuse(ResultCanceled, context.Cause(a.ctx))
	case err != nil:
		return refuse(ResultUnauthorized, err)
	case !claimed:
		return refuse(ResultUnauthorized, errNotClaimed)
	}
	return nil
}

// errNotClaimed prevents a mistake in Authorize from permitting replays.
var errNotClaimed = errors.New("auth: Authorize agreed without calling claim")
