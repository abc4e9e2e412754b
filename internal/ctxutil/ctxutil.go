// Package ctxutil has work done when a context ends, and knows when that work is over.
package ctxutil

import "context"

// Done calls f in a goroutine of its own once ctx is done, unless release is called before; release waits for an
// f that has begun: when it returns, f has returned or will not be called.
func Done(ctx context.Context, f func()) (release func()) {
	called := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(called)
		f()
	})
	return func() {
		if !stop() {
			<-called
		}
	}
}
