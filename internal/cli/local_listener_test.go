package cli

import (
	"encoding/json"
	"testing"
)

func TestForwardAndProxyPrintAddress(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	for _, args := range [][]string{{"forward", "echo", "--listen", "127.0.0.1:0"}, {"proxy", "--listen", "127.0.0.1:0"}} {
		l := listen(t, append(args, "-o", "json")...)
		var got listenResult
		if err := json.Unmarshal([]byte(l.output), &got); err != nil || got.Listening != l.addr || len(got.Services) != 1 {
			t.Errorf("%v: %s, %v", args, l.output, err)
		}
		l.end(t)
	}
}

func TestListenFlagsNetwork(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:0": "tcp4", "127.0.0.1:1": "tcp4", "[::]:0": "tcp", "[::1]:1": "tcp", ":1": "tcp", "localhost:1": "tcp",
	} {
		f := listenFlags{listen: listen}
		if got := f.network(); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}
