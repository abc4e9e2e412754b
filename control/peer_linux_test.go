package control

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRootTheGatewaysUserAndTheGroupMayAsk(t *testing.T) {
	p := peers{own: 1001, group: 2001}
	for _, c := range []struct {
		name string
		cred *unix.Ucred
		want bool
	}{
		{"root", &unix.Ucred{Uid: 0, Gid: 0}, true},
		{"the gateway's user", &unix.Ucred{Uid: 1001, Gid: 1}, true},
		{"one of the group", &unix.Ucred{Uid: 1002, Gid: 2001}, true},
		{"anybody else", &unix.Ucred{Uid: 1002, Gid: 1002}, false},
		{"nobody knows who", nil, false},
	} {
		ctx := context.Background()
		if c.cred != nil {
			ctx = context.WithValue(ctx, peerKey{}, c.cred)
		}
		if err := p.allow(ctx); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
