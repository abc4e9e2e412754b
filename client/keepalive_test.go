package client

import (
	"net"
	"testing"
	"time"
)

func TestSetKeepAliveDefault(t *testing.T) {
	for name, c := range map[string]struct{ by, want net.KeepAliveConfig }{
		"by default": {net.KeepAliveConfig{}, keepAlive},
		"its own":    {net.KeepAliveConfig{Enable: true, Idle: time.Second}, net.KeepAliveConfig{Enable: true, Idle: time.Second}},
	} {
		by := net.Dialer{KeepAliveConfig: c.by}
		if setKeepAlive(&by); by.KeepAliveConfig != c.want {
			t.Errorf("%s: %+v", name, by.KeepAliveConfig)
		}
	}
	by := net.Dialer{KeepAlive: -1}
	if setKeepAlive(&by); by.KeepAliveConfig.Enable {
		t.Error("probes that were switched off are on")
	}
	if gone := keepAlive.Idle + keepAlive.Interval*time.Duration(keepAlive.Count); gone < 2*time.Hour {
		t.Errorf("a network that is gone for %v ends a connection", gone)
	}
}
