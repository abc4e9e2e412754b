package flows

import (
	"context"
	"time"

	"github.com/knockgw/knockgw/internal/ctxutil"
)

// handshakeTimeout bounds the time that a client may take to complete its
// handshake. The stack itself would retransmit its SYN-ACK for two minutes. By
// then it has been sent five times: after 0, 1, 3, 7 and 15 s.
const handshakeTimeout = 20 * time.Second

// accept completes the handshake. On an error it silences the gate
// (Plan.OnDrop).
func (t *Table) accept(ctx context.Context, f *Flow, r Request, p *Plan) (Conn, CloseReason) {
	shake, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	release := ctxutil.AfterFunc(shake, func() {
		if closeReason(ctx, CloseKilled).sendsReset() {
			r.Reset()
		} else {
			r.Drop()
		}
	})

	client, err := r.Accept()
	release()
	if err != nil {
		p.OnDrop()
		return nil, closeReason(ctx, CloseHandshake)
	}

	if err := p.HandshakeDone(); err != nil {
		client.Abort() // with a reset, if the flow is still admitted
		p.OnDrop()
		return nil, CloseNoGrant
	}
	if p.Client != nil {
		name := p.Client()
		f.client.Store(&name)
	}
	return client, 0
}
