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

	"github.com/knockgw/knockgw/protocol"
	"go.yaml.in/yaml/v3"
)

// Option changes what Load and Parse accept.
type Option func(*options)

type options struct {
	noUpstream bool
	now        time.Time
}

// WithoutUpstream accepts services that name no upstream, for a program that accepts their connections
// itself.
func WithoutUpstream() Option { return func(o *options) { o.noUpstream = true } }

// At has the dates of a file judged as of now instead of the system's time. Only warnings depend on it.
func At(now time.Time) Option { return func(o *options) { o.now = now } }

// Load reads the file at path. Every error in it is an *Error, several of them joined; a file that
// cannot be read is one too, and unwraps to what the system said.
func Load(path string, opts ...Option) (*Config, error) {
	f, err := os.Open(path) // the operator names it
	if err != nil {
		return nil, &Error{File: path, Msg: cannotRead(err), Err: err}
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &Error{File: path, Msg: cannotRead(err), Err: err}
	}
	c, err := Parse(path, data, opts...)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil {
		c.warnOpenFile(path, info)
	}
	return c, nil
}

func cannotRead(err error) string {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Sprintf("cannot be read: %v; name the file with --config", err)
}

// Parse reads the content of a file. Its name is for errors, and its directory is what relative paths
// start from.
func Parse(name string, data []byte, opts ...Option) (*Config, error) {
	if len(data) > maxFile {
		return nil, &Error{File: name, Msg: fmt.Sprintf("has more than %d bytes; is it the right file?", maxFile)}
	}
	root, err := readYAML(name, data)
	if err != nil {
		return nil, err
	}
	p := &parser{report: &report{file: name}, base: filepath.Dir(name), options: options{now: time.Now()}}
	for _, o := range opts {
		o(&p.options)
	}
	p.top(root)
	p.check()
	if err := p.err(); err != nil {
		return nil, err
	}
	p.c.Warnings = p.warnings
	return &p.c, nil
}

// parser is one file on its way to a Config. The sections stay for the checks that look at several of
// them and still must name a line; their indexes are those of the Config.
type parser struct {
	*report
	options      options
	base         string // directory
	c            Config
	tun          *section
	knock        *section
	sequence     *section
	metrics      *section
	routes       []item
	routesBroken bool // some are not in Config.TUN.Routes
	clients      []clientSource
	services     []serviceSource
	zones        map[string]*time.Location // those that clients named
}

// clientSource is where a client stands in the file.
type clientSource struct {
	*section
	grants  []item // the elements of its services, as many as Client.Services has
	secrets []item // where its secrets stand, as many as Client.Secrets has
}

// serviceSource is where a service stands in the file.
type serviceSource struct {
	*section
	auth *section
}

func (p *parser) top(root *yaml.Node) {
	s := p.newSection(root, "", "version", "tun", "knock", "clients", "services", "limits", "ban",
		"state", "control", "metrics")
	p.parseVersion(s)
	p.parseTUN(s.sub("tun", "name", "mtu", "routes", "filter"))
	p.parseKnock(s.sub("knock", "udp_port", "window", "gateway", "slot", "sequence"))
	for i, it := range s.list("clients", "name one, or remove the key") {
		p.parseClient(i, it)
	}
	for i, it := range s.list("services", "name one: there is nothing to protect") {
		p.parseService(i, it)
	}
	if s.lacks("services") {
		s.fail(s.node, "services", "is missing; name at least one service to protect")
	}
	p.parseLimits(s.sub("limits", "grants_per_client", "flows_per_client", "grants_per_source", "flows_per_source", "flows", "knocks"))
	p.parseBan(s.sub("ban", "after", "within", "for"))
	p.path(s.sub("state", "dir"), "dir", &p.c.State.Dir)
	control := s.sub("control", "socket")
	p.path(control, "socket", &p.c.Control.Socket)
	if len(p.c.Control.Socket) > maxSocket {
		control.failKey("socket", "has %d bytes, and a socket's path at most %d; choose a shorter one", len(p.c.Control.Socket), maxSocket)
	}
	p.parseMetrics(s.sub("metrics", "listen"))
}

func (p *parser) parseVersion(s *section) {
	if !s.has("version") {
		return
	}
	if v, ok := s.integerOf(s.at("version"), "version"); ok && v != version {
		s.failKey("version", "%d is not a version that this program knows; write %d", v, version)
	}
}

func (p *parser) parseTUN(s *section) {
	p.tun = s
	t := &p.c.TUN
	*t = TUN{Name: DefaultTUNName, MTU: DefaultMTU, Filter: FilterAuto}
	if s.text("name", &t.Name) {
		checkDevice(s, "name", t.Name)
	}
	s.integer("mtu", &t.MTU, minMTU, maxMTU)
	parseFilter(s, &t.Filter)
	before := len(p.errs)
	s.texts("routes", "name the prefixes that services listen in", func(it item, text string) {
		route, err := parsePrefix(text)
		if err != nil {
			p.fail(it.node, it.path, "%q: %v", text, err)
			return
		}
		t.Routes = append(t.Routes, route)
		p.routes = append(p.routes, it)
	})
	p.routesBroken = s.broken || len(p.errs) > before
}

// parseFilter reads tun.filter. There are filters on Linux only.
func parseFilter(s *section, to *Filter) {
	text := string(*to)
	if !s.text("filter", &text) {
		return
	}
	switch f := Filter(text); {
	case f != FilterAuto && f != FilterOff && f != FilterRequire:
		s.failKey("filter", "%q is not known; write %s, %s or %s", text, FilterAuto, FilterOff, FilterRequire)
	case f == FilterRequire && runtime.GOOS != "linux":
		s.failKey("filter", "needs Linux; write %s", FilterAuto)
	default:
		*to = f
	}
}

// checkDevice refuses what no system takes as an interface's name, and %, which Linux would fill in.
func checkDevice(s *section, key, name string) {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/:%", r) })
	switch {
	case len(name) > maxDevice:
		s.failKey(key, "%q has %d bytes, and an interface's name at most %d; choose a shorter one", name, len(name), maxDevice)
	case bad || name == "." || name == "..":
		s.failKey(key, "%q cannot be an interface's name; use letters and digits, as in %s", name, DefaultTUNName)
	}
}

func (p *parser) parseKnock(s *section) {
	k := &p.c.Knock
	p.knock = s
	*k = Knock{
		UDPPort:  DefaultUDPPort,
		Window:   DefaultWindow,
		Slot:     DefaultSlot,
		Sequence: Sequence{Length: DefaultSequenceLength, Window: DefaultSequenceWindow, Slot: DefaultSlot},
	}
	s.port("udp_port", &k.UDPPort)
	s.duration("window", &k.Window, minWindow, maxWindow)
	if gateway := s.values["gateway"]; gateway != nil && !isEmptyText(gateway) { // empty is a name as well, the default
		s.text("gateway", &k.Gateway)
		if len(k.Gateway) > protocol.MaxGateway {
			s.failKey("gateway", "has %d bytes, and a gateway's name at most %d; choose a shorter one", len(k.Gateway), protocol.MaxGateway)
		}
	}
	slot(s, &k.Slot)
	seq := s.sub("sequence", "length", "window", "slot", "legacy")
	seq.integer("length", &k.Sequence.Length, minSequence, maxSequence)
	seq.duration("window", &k.Sequence.Window, minWindow, maxWindow)
	slot(seq, &k.Sequence.Slot)
	seq.boolean("legacy", &k.Sequence.Legacy)
	p.sequence = seq
}

// slot reads the length of a time slot, which both sides count in whole seconds.
func slot(s *section, to *time.Duration) {
	s.duration("slot", to, minWindow, maxWindow)
	if d := *to; d%minWindow != 0 {
		s.failKey("slot", "%v is not a number of whole seconds; write %v", d, d.Truncate(minWindow))
	}
}

// path reads a path and makes it absolute, from the file's directory.
func (p *parser) path(s *section, name string, to *string) {
	if !s.text(name, to) || filepath.IsAbs(*to) {
		return
	}
	abs, err := filepath.Abs(filepath.Join(p.base, *to))
	if err != nil {
		s.failKey(name, "%v; write an absolute path", err)
		return
	}
	*to = abs
}

func (p *parser) parseMetrics(s *section) {
	p.metrics = s
	var text string
	if !s.text("listen", &text) {
		return
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Port() == 0 {
		s.failKey("listen", "%q is not address:port; write it as 127.0.0.1:9091", text)
		return
	}
	p.c.Metrics.Listen = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
