package guard_test

import (
	"os/exec"
	"strings"
	"testing"
)

// tunless are the packages for programs without a TUN device, which must build
// and run on every system and need nothing of its network configuration.
var tunless = []string{
	"./auth", "./client", "./client/profile", "./client/proxy", "./client/relay", "./config", "./guard", "./metrics", "./packet", "./protocol",
}

// tunOnly are import paths that only programs with a TUN device need.
var tunOnly = []string{
	"golang.zx2c4.com/wireguard", "github.com/vishvananda", "github.com/cilium/ebpf", "gvisor.dev/gvisor/pkg/tcpip/stack",
	"github.com/knockgw/knockgw/tun", "github.com/knockgw/knockgw/netstack", "github.com/knockgw/knockgw/internal/filter", "github.com/knockgw/knockgw/internal/routing",
}

func TestTUNlessPackagesLinkNoTUN(t *testing.T) {
	list := exec.Command("go", append([]string{"list", "-deps"}, tunless...)...)
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		for _, bad := range tunOnly {
			if dep == bad || strings.HasPrefix(dep, bad+"/") {
				t.Errorf("%s is linked", dep)
			}
		}
	}
}
