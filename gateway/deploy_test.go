package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/testtool"
)

// The files in deploy/ for Prometheus and Grafana must match the gateway's
// metrics.

const (
	rulesFile     = "../deploy/prometheus/knockgw.rules.yaml"
	rulesTests    = "../deploy/prometheus/knockgw_test.yaml"
	dashboardFile = "../deploy/grafana/knockgw.json"
)

// promtool runs promtool, or skips the test if it is not installed and not
// required.
func promtool(t *testing.T, in string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testtool.Require(t, "promtool")[0], args...)
	cmd.Stdin = strings.NewReader(in)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// scrape returns the metrics of a gateway in which every event has happened
// once.
func scrape(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, true, services(echoUpstream(t))+fmt.Sprintf("metrics: {listen: %q}\n", addr))
	conn, err := h.connectAs(alice, clientAddrs[0], modeKnockAuth)
	if err != nil {
		t.Fatal(err)
	}
	h.exchange(conn, 1<<10)
	var text string
	eventually(t, "the flow is counted", func() bool {
		_, text = get(t, "http://"+addr+"/metrics")
		return strings.Contains(text, `knockgw_flows_relayed_total 1`)
	})
	return text
}

func TestPromtoolAcceptsMetricsAndRules(t *testing.T) {
	if out := promtool(t, scrape(t), "check", "metrics"); out != "" {
		t.Errorf("promtool check metrics says\n%s", out)
	}
	promtool(t, "", "check", "rules", rulesFile)
	promtool(t, "", "test", "rules", rulesTests)
}

// grafana replaces variables as Grafana does.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*")

func TestPromtoolAcceptsDashboard(t *testing.T) {
	type rule struct{ Record, Expr string }
	var all []rule
	for where, expr := range expressions(t) {
		if strings.HasPrefix(where, "panel") || strings.HasPrefix(where, "annotation") && expr != "" {
			all = append(all, rule{fmt.Sprintf("query_%d", len(all)), grafana.Replace(expr)})
		}
	}
	type group struct {
		Name  string
		Rules []rule
	}
	b, err := yaml.Marshal(map[string][]group{"groups": {{"dashboard", all}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}

// expressions returns the queries of the rules and of the dashboard, by their
// location.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	b, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &rules); err != nil {
		t.Fatal(err)
	}
	for _, r := range rules.Groups[0].Rules {
		all["alert "+r.Alert] = r.Expr
		all["words of "+r.Alert] = r.Annotations["summary"] + r.Annotations["description"]
	}
	if b, err = os.ReadFile(dashboardFile); err != nil {
		t.Fatal(err)
	}
	type target struct{ Expr string }
	var dashboard struct {
		Panels []struct {
			Title, Type string
			Targets     []target
			Datasource  struct{ UID string }
		}
		Annotations struct{ List []target }
		Templating  struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${datasource}") {
			t.Errorf("panel %q shows nothing, or not of the chosen data source", p.Title)
		}
		for i, e := range p.Targets {
			all[fmt.Sprintf("panel %q, %d", p.Title, i)] = e.Expr
		}
	}
	for i, a := range dashboard.Annotations.List {
		all[fmt.Sprintf("annotation %d", i)] = a.Expr
	}
	for _, v := range dashboard.Templating.List {
		all["variable "+v.Name] = v.Definition
	}
	return all
}

var (
	metricName  = regexp.MustCompile(`\b(?:knockgw|process|go)_[a-z0-9_]+[a-z0-9]\b`)
	limitName   = regexp.MustCompile(`knockgw_resource_limit\{resource="([^"]*)"`)
	resultName  = regexp.MustCompile(`result="([^"]*)"`)
	eitherName  = regexp.MustCompile(`__name__=~"knockgw_\(knocks\|authentications\)_total"`)
	typeOfNames = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
)

func TestRulesAndDashboardUseKnownMetrics(t *testing.T) {
	text := scrape(t)
	// The device of this test supports no filter; test/netns checks this metric.
	known := map[string]bool{"knockgw_filter_dropped_packets_total": true}
	for _, m := range typeOfNames.FindAllStringSubmatch(text, -1) {
		known[m[1]] = true
		if m[2] == "histogram" {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				known[m[1]+part] = true
			}
		}
	}
	results := map[string]bool{"ok": true, "failed": true, "timeout": true}
	for r := range knock.NumResults {
		results[r.String()] = true
	}
	for r := range auth.NumResults {
		results[auth.Result(r).String()] = true
	}
	used := make(map[string]bool)
	for where, expr := range expressions(t) {
		expr = eitherName.ReplaceAllString(expr, "knockgw_knocks_total knockgw_authentications_total")
		for _, name := range metricName.FindAllString(expr, -1) {
			if used[name] = true; !known[name] {
				t.Errorf("%s: the gateway has no %s", where, name)
			}
		}
		for _, m := range limitName.FindAllStringSubmatch(expr, -1) {
			if !strings.Contains(text, `knockgw_resource_limit{resource="`+m[1]+`"}`) {
				t.Errorf("%s: the gateway has no limit of %s", where, m[1])
			}
		}
		for _, m := range resultName.FindAllStringSubmatch(expr, -1) {
			if !results[m[1]] {
				t.Errorf("%s: nothing ends with the result %s", where, m[1])
			}
		}
	}
	for _, m := range typeOfNames.FindAllStringSubmatch(text, -1) {
		if name := m[1]; strings.HasPrefix(name, "knockgw_") && !used[name] && !used[name+"_bucket"] {
			t.Errorf("%s is neither in the dashboard nor in the rules", name)
		}
	}
}
