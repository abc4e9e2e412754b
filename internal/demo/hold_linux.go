package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/internal/netlab"
	"github.com/knockgw/knockgw/protocol"
)

const (
	// profileName is the profile of the gateway's services, and guardedName the
	// one of a website on the gateway's host that verifies knocks itself.
	profileName, guardedName = "demo", "guarded"
	// guardedService and guardedPort are of that website.
	guardedService = "site"
	guardedPort    = 8081
)

// An example is a hidden service of the lab, and its program in the directory
// examples/.
type example struct {
	name, program  string // of the service and of the program
	port, upstream uint16 // hidden, and on the upstream
	serve, use     string // the program's flags in either role; $D is the lab's directory
}

func examples() []example {
	return []example{
		{"web", "http", 80, 8080, "", ""},
		{"grpc", "grpc", 50051, 50051, "", ""},
		{"ssh", "ssh", 22, 2222, "-keys $D/keys", "-keys $D/keys"},
		{"postgres", "postgres", 5432, 5432, "", ""},
	}
}

// Hold builds the lab with a gateway that hides a service for each of the
// examples, prints how to enter its namespaces and what to try there, and waits
// for the end of ctx, which is no error once everything is set up. It removes
// everything again. Its errors are those of Run.
func Hold(ctx context.Context, o Options) (err error) {
	d := &heldLab{report: report{w: o.Out}, secret: make([]byte, secretSize)}
	_, _ = rand.Read(d.secret) // never fails
	if err := d.prepare(ctx, o.Gateway); err != nil {
		err = errors.Join(err, d.close())
		if ctx.Err() != nil { // whatever err is, this is why
			return fmt.Errorf("cut short: %w", context.Cause(ctx))
		}
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	d.printUsage()
	if d.err != nil {
		return fmt.Errorf("write the report: %w", d.err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.gateway.Ended():
		d.print(d.gateway.logTail() + "\n")
		return d.gateway.exited()
	}
}

// heldLab is a lab that stays until it is interrupted.
type heldLab struct {
	report
	lab     *lab
	secret  []byte
	gateway *gatewayProcess
	dir     string // has the client's profile, and the files of the user
}

// prepare builds the lab, starts the gateway and writes the profile.
func (d *heldLab) prepare(ctx context.Context, command []string) (err error) {
	l, err := newLab(ctx)
	if err != nil {
		return err // with nothing left of it
	}
	d.lab = l
	if d.gateway, err = startGateway(d.lab.Gateway, command, d.configText(), d.secret); err != nil {
		return err
	}
	if err := d.gateway.waitReady(ctx); err != nil {
		d.print(d.gateway.logTail() + "\n")
		return err
	}
	if d.dir, err = os.MkdirTemp("", "knockgw-demo-"); err != nil {
		return fmt.Errorf("make a directory for the profile: %w", err)
	}
	for _, p := range []*profile.Profile{d.profile(), d.guarded()} {
		if _, err := profile.Directory(d.dir).Save(p, false); err != nil {
			return err
		}
	}
	return nil
}

// hidden returns the hidden address of an example, of the first family.
func (d *heldLab) hidden(e example) netip.AddrPort {
	return netip.AddrPortFrom(d.lab.families[0].hidden, e.port)
}

func (d *heldLab) upstream(e example) netip.AddrPort {
	return netip.AddrPortFrom(d.lab.Upstream.Addrs()[0], e.upstream)
}

// site returns the address of the website that verifies knocks itself: the
// gateway's, as the client sees it.
func (d *heldLab) site() netip.AddrPort {
	return netip.AddrPortFrom(d.lab.Client.Router4, guardedPort)
}

// configText is the gateway's configuration.
func (d *heldLab) configText() string {
	var services strings.Builder
	for _, e := range examples() {
		fmt.Fprintf(&services, "  - {name: %s, listen: %q, upstream: %q, mode: knock-auth}\n", e.name, d.hidden(e), d.upstream(e))
	}
	return fmt.Sprintf(`version: 1
tun: {name: %s, routes: [%s]}
clients:
  - {id: %s, secret_file: %s}
services:
%sstate: {dir: state}
metrics: {listen: %q}
`, netlab.Tunnel, d.lab.families[0].protected, clientID, secretName, services.String(), metricsAddress())
}

// profile returns the client's profile.
func (d *heldLab) profile() *profile.Profile {
	p := &profile.Profile{Name: profileName, Client: clientID, Secret: protocol.Secret(d.secret)}
	for _, e := range examples() {
		p.Services = append(p.Services, service(e.name, d.hidden(e)))
	}
	return p
}

// guarded returns the client's profile for the website that verifies knocks
// itself.
func (d *heldLab) guarded() *profile.Profile {
	return &profile.Profile{Name: guardedName, Client: clientID, Secret: protocol.Secret(d.secret),
		Services: []profile.Service{service(guardedService, d.site())}}
}

func service(name string, at netip.AddrPort) profile.Service {
	return profile.Service{
		Name: name, Address: at.String(), Mode: profile.ModeKnockAuth, Method: protocol.MethodUDP,
		KnockPort: knockPort, Auth: profile.Auth{Proof: true},
	}
}

// printUsage prints what there is and how to use it. The commands are for a
// shell, each on a line of its own.
func (d *heldLab) printUsage() {
	d.line("knockgw demo: a gateway that hides four services.")
	d.line("")
	d.block(d.lab.picture())
	d.line("")
	d.line("In another terminal, as root:")
	d.line("")
	d.block(d.variables())
	d.line("")
	d.line("$CLIENT, $ATTACKER, $UPSTREAM or $GATEWAY before a command runs it there.")

	d.line("The programs of examples/, from the root of the repository; the first of two")
	d.line("commands is the service, on the upstream, and the second its client:")
	d.line("")
	d.block("go build -C examples -o $D/ ./...\n")
	for _, e := range examples() {
		use := flags("$CLIENT $D/"+e.program, "-profile $D/"+profileName+".yaml -service "+e.name, e.use)
		d.line("")
		if e.name == "postgres" {
			d.line("or with a PostgreSQL at %v of the upstream:", d.upstream(e))
			d.line("")
		} else {
			d.block(flags("$UPSTREAM $D/"+e.program, "-serve "+d.upstream(e).String(), e.serve) + " &\n")
		}
		d.block(use + "\n")
	}

	d.line("")
	d.line("A website that verifies knocks itself, without the gateway:")
	d.line("")
	which := " -profile $D/" + guardedName + ".yaml -service " + guardedService
	d.block("$GATEWAY $D/http -serve " + d.site().String() + " -guard" + which + " &\n$CLIENT $D/http" + which + "\n")

	d.line("")
	d.line("What the client finds, and what an attacker finds:")
	d.line("")
	d.block("$CLIENT " + program() + " ping web\n$ATTACKER nmap -n -Pn -p 22,80,5432,50051 " + d.lab.families[0].hidden.String() + "\n")
	d.line("")
	d.line("To remove everything, interrupt this program (Ctrl-C).")
}

// program returns the path of this program: go run puts it in no directory of
// PATH.
func program() string {
	path, err := os.Executable()
	if err != nil {
		return "knockgw"
	}
	return path
}

// flags joins the parts of a command.
func flags(parts ...string) string { return strings.TrimSpace(strings.Join(parts, " ")) }

// variables returns the shell variables of the lab.
func (d *heldLab) variables() string {
	text := fmt.Sprintf("D=%s\nexport %s=$D\n", d.dir, profile.DirectoryVariable)
	for _, h := range []*netlab.Host{d.lab.Client, d.lab.Attacker, d.lab.Upstream, d.lab.Gateway} {
		at := filepath.Join("/proc", strconv.Itoa(os.Getpid()), "fd", strconv.Itoa(h.FD()))
		text += fmt.Sprintf("%s=\"nsenter --net=%s\"\n", strings.ToUpper(h.Name), at)
	}
	return text
}

// close removes everything.
func (d *heldLab) close() error {
	var err error
	if d.gateway != nil {
		err = d.gateway.close()
	}
	if d.lab != nil {
		err = errors.Join(err, d.lab.Close())
	}
	if d.dir != "" {
		err = errors.Join(err, os.RemoveAll(d.dir))
	}
	return err
}
