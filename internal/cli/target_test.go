package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/protocol"
)

// targetOf parses a command line and finds its target.
func targetOf(t *testing.T, args ...string) (*target, error) {
	t.Helper()
	var (
		f     clientFlags
		found *target
		err   error
	)
	cmd := &cobra.Command{Use: "test", Args: exactArgs(1), SilenceErrors: true, SilenceUsage: true,
		Run: func(cmd *cobra.Command, args []string) { found, err = f.find(cmd, args[0]) }}
	f.addConnecting(cmd)
	cmd.SetArgs(args)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	return found, err
}

// home is a profile with two services.
func home() *profile.Profile {
	return &profile.Profile{
		Name: "home", Client: "alice", Secret: protocol.Secret(aliceSecret), Gateway: "gw",
		Services: []profile.Service{
			{Name: "ssh", Address: "10.77.0.1:22", Mode: profile.ModeKnockAuth, Method: protocol.MethodUDPv2,
				KnockPort: 4000, Port: 2222, Slot: 10 * time.Second, Auth: profile.Auth{Protocol: profile.AuthV1, Proof: true}},
			{Name: "web", Address: "10.77.0.2:80", Mode: profile.ModeAuth},
		},
	}
}

func TestFindTarget(t *testing.T) {
	work := home()
	work.Name, work.Services = "work", work.Services[1:]
	profiles(t, home(), work)
	for _, text := range []string{"ssh", "home/ssh", "ssh:22", "10.77.0.1:22"} {
		d, err := targetOf(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d.address != "10.77.0.1:22" || d.name != "home/ssh" || d.Identity.ID() != "alice" || d.Gateway != "gw" ||
			d.Method != protocol.MethodUDPv2 || d.KnockPort != 4000 || d.Port != 2222 || d.Slot != 10*time.Second ||
			d.Auth.Protocol != auth.V1 || !d.Auth.Proof || d.NoKnock || d.NoAuth {
			t.Errorf("%s: %+v", text, d.Dialer)
		}
	}
	d, err := targetOf(t, "ssh", "--client", "bob", "--secret-file", secretFile(t, "bob's secret, of thirty-two byte."),
		"--method", "udp", "--udp-port", "5", "--port", "6", "--no-auth", "--v1=false", "--proof=false", "--slot", "20s",
		"--hint", "none", "--buckets", "256", "--timeout", "3s", "--session", strings.Repeat("ab", 16))
	if err != nil {
		t.Fatal(err)
	}
	if d.Identity.ID() != "bob" || d.Method != protocol.MethodUDP || d.KnockPort != 5 || d.Port != 6 || !d.NoAuth || d.NoKnock ||
		d.Auth.Protocol != auth.V2 || d.Auth.Proof || d.Slot != 20*time.Second || d.Auth.Hint != protocol.HintNone ||
		len(d.Auth.Buckets) != 1 || d.Timeout != 3*time.Second || len(d.SessionID) != 16 {
		t.Errorf("%+v", d.Dialer)
	}
	if d, err := targetOf(t, "work/web"); err != nil || !d.NoKnock {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := targetOf(t, "ssh", "--secret-file", secretFile(t, "a rotated secret of 32 bytes ...")); err != nil || d.Identity.ID() != "alice" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := targetOf(t, "web"); err == nil || !strings.Contains(err.Error(), "work/web") {
		t.Errorf("of two it was one: %v", err)
	}
}

func TestFindTargetWithoutProfile(t *testing.T) {
	t.Setenv(profile.DirectoryVariable, filepath.Join(t.TempDir(), "none"))
	d, err := targetOf(t, "10.77.0.1:22", "--client", "bob", "--secret-file", secretFile(t, "bob's secret, of thirty-two byte."))
	if err != nil {
		t.Fatal(err)
	}
	if d.Identity.ID() != "bob" || d.Method != protocol.MethodUDP || d.address != "10.77.0.1:22" || d.Auth.Protocol != auth.V2 {
		t.Errorf("%+v", d.Dialer)
	}
}

func TestFindUnknownTarget(t *testing.T) {
	for name, c := range map[string]struct {
		profiles []*profile.Profile
		args     []string
		want     string
	}{
		"no profile":        {nil, []string{"ssh"}, "knockgw import"},
		"an unknown name":   {[]*profile.Profile{home()}, []string{"sssh"}, "ssh (10.77.0.1:22)"},
		"an address":        {[]*profile.Profile{home()}, []string{"10.77.0.9:22"}, "--client"},
		"only a client":     {[]*profile.Profile{home()}, []string{"ssh", "--client", "bob"}, "--secret-file"},
		"an unknown method": {[]*profile.Profile{home()}, []string{"ssh", "--method", "x"}, "choose udp"},
		"an unknown hint":   {[]*profile.Profile{home()}, []string{"ssh", "--hint", "x"}, "route-hint or none"},
		"no hex":            {[]*profile.Profile{home()}, []string{"ssh", "--session", "x"}, "in hex"},
		"no port":           {[]*profile.Profile{home()}, []string{"ssh", "--bind-port=0"}, "from 1 to 65535"},
	} {
		t.Run(name, func(t *testing.T) {
			profiles(t, c.profiles...)
			_, err := targetOf(t, c.args...)
			if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestExitCodeOfStep(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	flags := []string{"--client", "alice", "--secret-file", secretFile(t, aliceSecret), "--timeout", "2s"}
	wrong := []string{"--secret-file", secretFile(t, "another secret, of thirty-two b."), "--proof"}
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"resolve":           {append(flags, "127.0.0.1:nothing"), exitResolve},
		"knock":             {append(flags, "[fe80::1]:22"), exitKnock},
		"connect":           {append(flags, "--no-knock", closed.Addr().String()), exitConnect},
		"authenticate":      {append(wrong, "echo"), exitAuthenticate},
		"a bad option":      {append(flags, "127.0.0.1:22", "--method", "tcp-auth"), exitUsage},
		"an unknown target": {[]string{"nothing"}, exitUsage},
		"no target":         {nil, exitUsage},
		"success":           {[]string{"echo"}, exitOK},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range []string{"connect", "ping"} {
				args := append([]string{command}, c.args...)
				if command == "ping" {
					args = append(args, "-c", "1")
				}
				_, _, err := runCommandLine(t, strings.NewReader(""), args...)
				if code := exitCode(err); code != c.code {
					t.Errorf("%s ended with %d: %v", command, code, err)
				}
				if errors.Is(err, errInterrupted) {
					t.Errorf("%s took too long", command)
				}
				if err != nil && strings.Contains(singleLine(err), "\n") {
					t.Errorf("%q", err)
				}
			}
		})
	}
}

func TestTargetInSeveralProfiles(t *testing.T) {
	g := newGate(t, echo)
	dir := profiles(t, g.profile("lab", "echo"), g.profile("home", "echo"), g.profile("work", "ssh"))
	if _, _, err := runCommandLine(t, nil, "knock", "echo"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "choose home/echo or lab/echo") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(string(dir), "bad.yaml"), []byte("bad: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, err := runCommandLine(t, nil, "knock", "ssh", "-q"); err != nil || len(out) != 33 || !strings.Contains(errs, "using work/ssh; a profile that cannot be read") {
		t.Errorf("%q %q %v", out, errs, err)
	}
	if _, _, err := runCommandLine(t, nil, "connect", "ssh", "--buckets", "100"); exitCode(err) != exitUsage {
		t.Errorf("%v", err)
	}
}

func dirOf(t *testing.T) profile.Directory {
	t.Helper()
	dir, err := profile.DefaultDirectory()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
