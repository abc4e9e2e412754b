package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestCompletionOfNames(t *testing.T) {
	g := newGate(t, echo)
	profiles(t, g.profile("lab", "echo"), g.profile("home", "echo"), g.profile("work", "ssh"))
	config := filepath.Join(t.TempDir(), "knockgw.yaml")
	text := "version: 1\ntun: {routes: [10.77.0.0/24]}\nclients: [{id: bob, secret: \"" + aliceSecret + "\"}]\n" +
		"services: [{name: web, listen: \"10.77.0.1:22\", upstream: \"10.0.2.2:22\"}]\nclients_dir: clients.d\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(filepath.Dir(config), "clients.d")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"carl.yaml": "{id: carl, secret: 0123456789abcdef}", "dave.yaml": "{id: dave, secrte: x}"} {
		if err := os.WriteFile(filepath.Join(own, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ line, want string }{
		{"connect ", "home/echo lab/echo ssh work/ssh"},
		{"ping ssh ", ""},
		{"proxy --profile ", "home lab work"},
		{"client rotate --config " + config + " ", "carl"},
		{"client remove --config " + config + " carl ", ""},
		{"client add ", ""},
		{"client add x --config " + config + " --service ", "web"},
		{"revoke --config " + config + " --client ", "bob carl"},
		{"revoke --config none.yaml --client ", ""},
		{"flows --config ", "yaml yml"},
		{"explain ", "pcap pcapng cap"},
		{"explain x.pcap ", ""},
		{"flows -o ", "text json"},
		{"client add x -o ", "text yaml uri qr json"},
		{"capture --summary ", "text json"},
		{"capture -o ", "pcapng"},
		{"run --log-level ", "debug info warn error"},
		{"run --log-format ", "text json"},
		{"knock ssh --method ", "udp udp-seq udp-passive udp-passive-seq tcp-syn tcp-syn-seq udp-v2"},
		{"client add x --method ", "udp-v2 udp udp-seq tcp-syn tcp-syn-seq"},
		{"knock ssh --client ", "alice"},
		{"connect ssh --hint ", "route-hint none"},
		{"connect ssh --buckets 128,", "128,192 128,256 128,384 128,512"},
		{"forward ssh --listen ", ""},
		{"forward ssh --drain ", ""},
		{"flows ", ""},
		{"help client ", "add list remove rotate set show"},
	} {
		out, _, err := runCommandLine(t, nil, append([]string{"__complete"}, strings.Split(c.line, " ")...)...)
		offer, _, _ := strings.Cut(out, ":")
		if got := strings.Join(strings.Fields(offer), " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.line, got, err, c.want)
		}
	}
}

func TestCompletionExistsForAllFlags(t *testing.T) {
	root := command()
	eachCommand(root, func(c *cobra.Command, name string) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if _, ok := c.GetFlagCompletionFunc(f.Name); !ok && f.Value.Type() != "bool" {
				t.Errorf("%s --%s: say with completeFlag what the shell is to offer", name, f.Name)
			}
		})
		if c.ValidArgsFunction == nil {
			t.Errorf("%s %s: set ValidArgsFunction", name, strings.Join(argNames(c), " "))
		}
	})
}

// Only arguments and flags that name files complete to file names.
func TestCompletionOfFiles(t *testing.T) {
	files := map[string]bool{"config": true, "state": true, "secret-file": true, "socket": true, "out": true}
	eachCommand(command(), func(c *cobra.Command, name string) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			offer, ok := c.GetFlagCompletionFunc(f.Name)
			if !ok || f.Name == "output" && name == "capture" {
				return
			}
			_, how := offer(c, nil, "")
			if meant := how&cobra.ShellCompDirectiveNoFileComp == 0 && how&cobra.ShellCompDirectiveFilterDirs == 0; meant != files[f.Name] {
				t.Errorf("%s --%s: %v", name, f.Name, how)
			}
		})
	})
}

func TestCompletionFromRunningGateway(t *testing.T) {
	g := newFakeGateway(t)
	unreadable := filepath.Join(filepath.Dir(g.config), "unreadable.yaml")
	text := "tun: {routes: [10.77.0.0/24]}\ncontrol: {socket: s}\nclients: [{id: alice, secret_file: none}]\nservices: []\n"
	if err := os.WriteFile(unreadable, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, config, want string }{
		{"revoke --flow ", g.config, fmt.Sprint(clientAddr)},
		{"revoke --source ", g.config, "10.1.1.2 fd01:1::2"},
		{"trace --from ", g.config, "10.1.1.2 fd01:1::2"},
		{"trace --service ", g.config, "ssh"},
		{"bans remove ", g.config, "10.9.0.0/16"},
		{"revoke --client ", unreadable, "alice"},
		{"revoke --service ", unreadable, "ssh"},
	} {
		words := strings.Split(c.line, " ")
		out, _, err := runCommandLine(t, nil, append([]string{cobra.ShellCompNoDescRequestCmd, words[0], "--config", c.config}, words[1:]...)...)
		offer, _, _ := strings.Cut(out, "\n:")
		if got := strings.Join(strings.Fields(offer), " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.line, got, err, c.want)
		}
	}
}
