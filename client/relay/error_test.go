package relay

import (
	"errors"
	"io"
	"syscall"
	"testing"
)

func TestErrorNamesSideAndCause(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			app, service, end := start(t, t.Context(), k.wrap)
			if _, err := service.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(app, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			Reset(service)
			var failure *Error
			if e := <-end; !errors.As(e.err, &failure) || failure.Side != Service || failure.Op != OpCopy ||
				!errors.Is(e.err, syscall.ECONNRESET) {
				t.Errorf("%+v", e)
			}
		})
	}
}
