package admission

import (
	"time"

	"github.com/knockgw/knockgw/tun"
)

// fragments is a stub until the reassembler lands.
type fragments struct{}

func (f *fragments) init(func() time.Duration) {}

func (g *Gate) admitFragment(*tun.Packet) Verdict { return Verdict{Reason: ReasonMalformed} }
