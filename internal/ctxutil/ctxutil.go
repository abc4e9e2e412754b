// Package ctxutil runs a function when a context ends, and waits for it.
package ctxutil

import "context"

// AfterFunc calls f in its own goroutine when ctx is done, unless release is
// called first. release waits for a call of f that has begun: when it returns, f
// has returned or will never be called.
func AfterFunc(ctx context.Context, f func()) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}
