package cli

import (
	"testing"

	"github.com/knockgw/knockgw/internal/control"
)

func TestUnknownClientExitCode(t *testing.T) {
	path, _ := newReplyGateway(t, 0, "")
	_, _, err := runClientCommand(t, "client", "remove", "nosuch", "--config", path)
	if got, want := exitCode(err), exitCode(&control.RefusedError{Problems: []string{"there is no client"}}); got != want {
		t.Errorf("client remove ends with %d, revoke with %d", got, want)
	}
}
