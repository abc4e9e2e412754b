package cli

import (
	"strings"
	"testing"

	"github.com/knockgw/knockgw/client/profile"
)

func TestSuggestCommandPorts(t *testing.T) {
	taken := map[string]bool{}
	for _, c := range []struct{ target, address, want string }{
		{"ssh", "10.77.0.1:22", "ssh -o ProxyCommand='knockgw connect ssh' USER@ssh"},
		{"db", "10.77.0.1:5432", "knockgw forward db --listen 127.0.0.1:5432"},
		{"other", "10.77.0.2:5432", "knockgw forward other --listen 127.0.0.1:15432"},
		{"third", "10.77.0.3:5432", "knockgw forward third --listen 127.0.0.1:25432"},
		{"mail", "10.77.0.1:25", "knockgw forward mail --listen 127.0.0.1:10025"},
		{"high", "10.77.0.1:65000", "knockgw forward high --listen 127.0.0.1:65000"},
		{"higher", "10.77.0.2:65000", "knockgw forward higher --listen 127.0.0.1:0"},
		{"wiki", "10.77.0.1:80", "knockgw proxy; curl -x socks5h://127.0.0.1:1080 http://wiki/"},
		{"lab/wiki", "10.77.0.1:443", "knockgw proxy; curl -x socks5h://127.0.0.1:1080 https://wiki.lab/"},
		{"net", "10.77.0.0/24:443", "knockgw connect ADDRESS:443"},
	} {
		name := c.target
		if got := suggestCommand(c.target, &profile.Service{Name: name, Address: c.address}, taken); got != c.want {
			t.Errorf("%s: %s, want %s", c.target, got, c.want)
		}
	}
}

func TestImportRejectsOtherFiles(t *testing.T) {
	for _, junk := range []string{"\x7fELF\x02\x01", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "<html>", "a: b: c", "#!/bin/sh\n"} {
		if _, err := parseImport("x", []byte(junk)); err == nil || !strings.Contains(err.Error(), "neither a profile nor its URI") {
			t.Errorf("%q: %v", junk, err)
		}
	}
	if _, err := parseImport("x", []byte("client: alice\n")); err == nil || strings.Contains(err.Error(), "neither a profile") {
		t.Errorf("an incomplete profile: %v", err)
	}
}
