//go:build !linux

package demo

import (
	"context"
	"fmt"

	"github.com/knockgw/knockgw/tun"
)

// Run is Linux's: nothing else has network namespaces.
func Run(context.Context, Options) error {
	return fmt.Errorf("the demonstration builds network namespaces and needs Linux: %w for it", tun.ErrNoTUN)
}

// Hold is Linux's too.
func Hold(ctx context.Context, o Options) error { return Run(ctx, o) }
