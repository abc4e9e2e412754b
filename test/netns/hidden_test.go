//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/protocol"
	"github.com/knockgw/knockgw/test/netns/lab"
)

// serverTime is how long a real server may take to start on a busy machine.
const serverTime = 30 * time.Second

// A hiddenService is a lab whose gateway hides real software, and a client with
// a profile for it.
type hiddenService struct {
	*lab.Lab

	gateway *lab.Gateway
	profile *profile.Profile
	// profiles is the client's directory of profiles, and bin has the program
	// under test by its name.
	profiles, bin string
}

// hide starts a gateway with these endpoints, all of mode knock-auth, and gives
// the client its profile.
func hide(t *testing.T, l *lab.Lab, method string, all ...endpoint) *hiddenService {
	t.Helper()
	h := &hiddenService{Lab: l, profiles: t.TempDir(), bin: t.TempDir(), profile: &profile.Profile{
		Name: "lab", Client: "alice", Secret: protocol.Secret(aliceSecret),
	}}
	for i := range all {
		all[i].mode, all[i].methods = profile.ModeKnockAuth, []string{method}
		h.profile.Services = append(h.profile.Services, profile.Service{
			Name: all[i].name, Address: all[i].listen.String(), Mode: all[i].mode, Method: method, KnockPort: knockPort,
			Auth: profile.Auth{Proof: true},
		})
	}
	if _, err := profile.Directory(h.profiles).Save(h.profile, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program.get(t).Path, filepath.Join(h.bin, "knockgw")); err != nil {
		t.Fatal(err)
	}
	h.gateway = l.NewSite(t, program.get(t), hidingText(all)).Start(t)
	return h
}

// hidingText is the gateway's configuration: as little as an operator would
// write, so that the rest are the defaults.
func hidingText(all []endpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "clients:\n  - {id: alice, secret: %q}\nservices:\n", aliceSecret)
	for _, d := range all {
		fmt.Fprintf(&b, "  - {name: %s, listen: %q, upstream: %q, mode: %s, knock: [%s]}\n", d.name, d.listen, d.upstream,
			d.mode, strings.Join(d.methods, ", "))
	}
	return b.String()
}

// file is the path of the client's profile.
func (h *hiddenService) file() string { return filepath.Join(h.profiles, h.profile.Name+".yaml") }

// command prepares a program on the client, which finds knockgw and its profile.
func (h *hiddenService) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	path := h.bin + ":" + os.Getenv("PATH")
	// Not exec.LookPath's: it looks in the test's own PATH.
	if name == "knockgw" {
		name = filepath.Join(h.bin, name)
	}
	cmd := h.Client.Command(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+path, profile.DirectoryVariable+"="+h.profiles)
	return cmd
}

// run runs a program on the client that must succeed.
func (h *hiddenService) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := h.Client.RunCommand(h.command(t.Context(), name, args...))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// filtered fails the test unless nmap reports the endpoint's port as filtered
// to attackers and clients alike.
func (h *hiddenService) filtered(t *testing.T, d endpoint) {
	t.Helper()
	for _, from := range []*lab.Host{h.Attacker, h.Client} {
		for _, flag := range []string{"-sS", "-sT"} {
			s := scan{flags: []string{flag}, v6: d.listen.Addr().Is6(), ports: strconv.Itoa(int(d.listen.Port()))}
			states := s.run(t, from, d.listen.Addr())
			if len(states) != 1 || !states["filtered"] {
				t.Errorf("nmap %s from the %s reports %v as %v, want filtered", flag, from.Name, d.listen, states)
			}
		}
	}
}

// unseen does something while an attacker scans the endpoint again and again,
// and fails the test if he gets an answer.
func (h *hiddenService) unseen(t *testing.T, d endpoint, what func()) {
	t.Helper()
	capture := h.Attacker.Capture(lab.Link)
	over, scanned := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(scanned)
		for {
			scan{flags: []string{"-sS"}, v6: d.listen.Addr().Is6()}.assertBlind(t, h.Attacker, d.listen.Addr())
			select {
			case <-over:
				return
			default:
			}
		}
	}()
	func() {
		defer func() {
			close(over)
			<-scanned
		}()
		what()
	}()
	packets := capture.Stop()
	h.Attacker.Silent(packets)
	if lab.Sent(packets, h.Attacker.Addr(d.listen.Addr()), netip.PrefixFrom(d.listen.Addr(), d.listen.Addr().BitLen())) == 0 {
		t.Error("silence proves nothing: no packet was sent")
	}
}

// waitLog waits until a process has said a text.
func waitLog(t *testing.T, p *lab.Process, within time.Duration, text string) {
	t.Helper()
	if err := p.WaitLog(withTimeout(t, within), func(log string) bool { return strings.Contains(log, text) }); err != nil {
		t.Fatalf("%v: it has not said %q:\n%s", err, text, p.Log())
	}
}

// write writes a file for its owner alone and returns its path.
func write(t *testing.T, dir, name, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
