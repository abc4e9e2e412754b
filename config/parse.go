package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/internal/address"
	"github.com/knockgw/knockgw/internal/strictyaml"
	"github.com/knockgw/knockgw/protocol"
)

// Option modifies what [Load] and [Parse] accept.
type Option func(*options)

type options struct {
	noUpstream bool
	now        time.Time
	skipFiles  map[string]bool // client files, by path
}

// WithoutUpstream accepts services without an upstream, for a program that
// accepts their connections itself.
func WithoutUpstream() Option { return func(o *options) { o.noUpstream = true } }

// WithNow sets the time with which dates in a file are compared; the default is
// the system's time. Only warnings depend on it.
func WithNow(now time.Time) Option { return func(o *options) { o.now = now } }

// Load reads and parses the file at path. Every error in it is an *[Error];
// several are joined. A file that cannot be read is an *Error that unwraps to
// the system's error.
func Load(path string, opts ...Option) (*Config, error) {
	f, err := os.Open(path) // the operator chooses the path
	if err != nil {
		return nil, &Error{File: path, Msg: cannotRead(err), Err: err}
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &Error{File: path, Msg: cannotRead(err), Err: err}
	}
	c, err := Parse(path, data, opts...)
	if err != nil {
		return nil, err
	}
	c.warnInsecureFile(f)
	return c, nil
}

func cannotRead(err error) string {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Sprintf("cannot be read: %v; name the file with --config", err)
}

// Parse parses the content of a file. name is used in errors, and its directory
// is the base of relative paths.
func Parse(name string, data []byte, opts ...Option) (*Config, error) {
	if len(data) > maxFile {
		return nil, &Error{File: name, Msg: fmt.Sprintf("has more than %d bytes; is it the right file?", maxFile)}
	}
	p := &parser{Report: strictyaml.NewReport(name), base: filepath.Dir(name), options: options{now: time.Now()}}
	for _, o := range opts {
		o(&p.options)
	}
	if root := p.Read(data); root != nil {
		p.parseRoot(root)
		p.check()
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	p.c.Warnings = p.Warnings()
	return &p.c, nil
}

// parser parses one file. It keeps the sections, so that checks across sections
// can report a line; they have the indexes of the Config.
type parser struct {
	*strictyaml.Report
	options      options
	base         string // directory
	c            Config
	tun          *strictyaml.Section
	knock        *strictyaml.Section
	sequence     *strictyaml.Section
	metrics      *strictyaml.Section
	routes       []strictyaml.Item
	routesBroken bool              // some are missing in Config.TUN.Routes
	local        []strictyaml.Item // the elements of tun.local, as many as Config.TUN.Local has
	clients      []clientSource
	services     []serviceSource
	zones        map[string]*time.Location // loaded ones, by name
	access       *serviceClients
}

// clientSource is the position of a client in the file.
type clientSource struct {
	*strictyaml.Section
	grants  []strictyaml.Item // the elements of its services, as many as Client.Services has
	base    string            // directory of relative paths in its file
	secrets []strictyaml.Item // its secrets, as many as Client.Secrets has
}

// serviceSource is the position of a service in the file.
type serviceSource struct {
	*strictyaml.Section
	auth *strictyaml.Section
}

// parseRoot reads the top level of the file.
func (p *parser) parseRoot(root *yaml.Node) {
	s := p.NewSection(root, "", "version", "tun", "knock", "clients", "clients_dir", "services", "limits", "ban",
		"state", "control", "metrics", "audit")
	p.parseVersion(s)
	p.parseTUN(s.Sub("tun", "name", "mtu", "routes", "local", "filter"))
	p.parseKnock(s.Sub("knock", "udp_port", "window", "gateway", "slot", "sequence"))

	for i, it := range s.List("clients", "name one, or remove the key") {
		p.parseClient(clientFile{p.Report, p.base}, i, it)
	}
	if p.path(s, "clients_dir", &p.c.ClientsDir); s.Has("clients_dir") && p.c.ClientsDir != "" {
		p.parseClientsDir(s)
	}

	for i, it := range s.List("services", "name one: there is nothing to protect") {
		p.parseService(i, it)
	}
	if s.Missing("services") {
		s.Fail(s.Node, "services", "is missing; name at least one service to protect")
	}

	p.parseLimits(s.Sub("limits", "grants_per_client", "flows_per_client", "grants_per_source", "flows_per_source", "flows", "knocks"))
	p.parseBan(s.Sub("ban", "after", "within", "for"))
	p.path(s.Sub("state", "dir"), "dir", &p.c.State.Dir)
	control := s.Sub("control", "socket")
	p.path(control, "socket", &p.c.Control.Socket)
	if len(p.c.Control.Socket) > maxSocket {
		control.FailKey("socket", "has %d bytes, and a socket's path at most %d; choose a shorter one", len(p.c.Control.Socket), maxSocket)
	}
	p.parseMetrics(s.Sub("metrics", "listen", "page"))
	p.parseAudit(s.Sub("audit", "file", "max_mib", "keep"))
}

func (p *parser) parseVersion(s *strictyaml.Section) {
	if !s.Has("version") {
		return
	}
	if v, ok := s.IntegerOf(s.At("version"), "version"); ok && v != version {
		s.FailKey("version", "%d is not supported by this program; write %d", v, version)
	}
}

func (p *parser) parseTUN(s *strictyaml.Section) {
	p.tun = s
	t := &p.c.TUN
	*t = TUN{Name: DefaultTUNName(), MTU: DefaultMTU, Filter: FilterAuto}
	if s.Text("name", &t.Name) {
		checkDevice(s, "name", t.Name)
	}
	s.Integer("mtu", &t.MTU, minMTU, maxMTU)
	parseFilter(s, &t.Filter)
	before := p.Failures()
	s.Texts("routes", "name the prefixes that services listen in", func(it strictyaml.Item, text string) {
		route, err := address.ParsePrefix(text)
		if err != nil {
			p.Fail(it.Node, it.Path, "%q: %v", text, err)
			return
		}
		t.Routes = append(t.Routes, route)
		p.routes = append(p.routes, it)
	})
	p.parseLocal(s)
	p.routesBroken = s.Broken || p.Failures() > before
}

// parseFilter reads tun.filter. Only Linux has filters.
func parseFilter(s *strictyaml.Section, to *Filter) {
	text := string(*to)
	if !s.Text("filter", &text) {
		return
	}
	switch f := Filter(text); {
	case f != FilterAuto && f != FilterOff && f != FilterRequire:
		s.FailKey("filter", "%q is not known; write %s, %s or %s", text, FilterAuto, FilterOff, FilterRequire)
	case f == FilterRequire && runtime.GOOS != "linux":
		s.FailKey("filter", "needs Linux; write %s", FilterAuto)
	default:
		*to = f
	}
}

// checkDevice rejects names that no system accepts for an interface, and %,
// which Linux would expand.
func checkDevice(s *strictyaml.Section, key, name string) {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/:%", r) })
	switch {
	case len(name) > maxDevice:
		s.FailKey(key, "%q has %d bytes, and an interface's name at most %d; choose a shorter one", name, len(name), maxDevice)
	case bad || name == "." || name == "..":
		s.FailKey(key, "%q cannot be an interface's name; use letters and digits, such as %s", name, DefaultTUNName())
	}
}

func (p *parser) parseKnock(s *strictyaml.Section) {
	k := &p.c.Knock
	p.knock = s
	*k = Knock{
		UDPPort:  DefaultUDPPort,
		Window:   DefaultWindow,
		Slot:     DefaultSlot,
		Sequence: Sequence{Length: DefaultSequenceLength, Window: DefaultSequenceWindow, Slot: DefaultSlot},
	}

	s.Port("udp_port", &k.UDPPort)
	s.Duration("window", &k.Window, minWindow, maxWindow)
	if gateway := s.Value("gateway"); gateway != nil && !strictyaml.IsEmptyText(gateway) { // the empty name is valid, and the default
		s.Text("gateway", &k.Gateway)
		if len(k.Gateway) > protocol.MaxGateway {
			s.FailKey("gateway", "has %d bytes, and a gateway's name at most %d; choose a shorter one", len(k.Gateway), protocol.MaxGateway)
		}
	}
	s.Seconds("slot", &k.Slot, minWindow, maxWindow)

	seq := s.Sub("sequence", "length", "window", "slot", "legacy")
	seq.Integer("length", &k.Sequence.Length, minSequence, maxSequence)
	seq.Duration("window", &k.Sequence.Window, minWindow, maxWindow)
	seq.Seconds("slot", &k.Sequence.Slot, minWindow, maxWindow)
	seq.Boolean("legacy", &k.Sequence.Legacy)
	p.sequence = seq
}

// path reads a path and makes it absolute, relative to the file's directory.
func (p *parser) path(s *strictyaml.Section, name string, to *string) {
	if !s.Text(name, to) || filepath.IsAbs(*to) {
		return
	}
	abs, err := filepath.Abs(filepath.Join(p.base, *to))
	if err != nil {
		s.FailKey(name, "%v; write an absolute path", err)
		return
	}
	*to = abs
}

func (p *parser) parseAudit(s *strictyaml.Section) {
	a := &p.c.Audit
	p.path(s, "file", &a.File)
	mib, keep := DefaultAuditMiB, DefaultAuditKeep
	s.Integer("max_mib", &mib, 1, maxAuditMiB)
	s.Integer("keep", &keep, 1, maxAuditKeep)
	if s.Has("file") {
		a.MaxBytes, a.Keep = int64(mib)<<20, keep
	}
	for _, key := range []string{"max_mib", "keep"} {
		if s.Has(key) && !s.Has("file") {
			s.FailKey(key, "has no effect without audit.file; name the file")
		}
	}
}

func (p *parser) parseMetrics(s *strictyaml.Section) {
	p.metrics = s
	var text string
	if !s.Text("listen", &text) {
		return
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Port() == 0 {
		s.FailKey("listen", "%q is not address:port; write it as 127.0.0.1:9091", text)
		return
	}
	p.c.Metrics.Listen = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	p.c.Metrics.Page = p.c.Metrics.Listen.Addr().IsLoopback() // it shows clients, so it is not for a network by default
	s.Boolean("page", &p.c.Metrics.Page)
}
