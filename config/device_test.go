package config

import "testing"

func TestDefaultTUNName(t *testing.T) {
	for system, want := range map[string]string{"linux": "knock0", "darwin": "utun", "openbsd": "tun0", "freebsd": "knock0", "windows": "knock0"} {
		if got := defaultTUNName(system); got != want {
			t.Errorf("%s: %s, want %s", system, got, want)
		}
	}
}
