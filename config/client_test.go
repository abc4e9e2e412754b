package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseTimestamp(t *testing.T) {
	for text, want := range map[string]string{
		"2030-12-31":                "2031-01-01T00:00:00Z",
		"2028-02-28":                "2028-02-29T00:00:00Z",
		"2030-12-31T18:00:00Z":      "2030-12-31T18:00:00Z",
		"2030-12-31T18:00:00+01:00": "2030-12-31T17:00:00Z",
		"2030-12-31T18:00:00.5Z":    "2030-12-31T18:00:00.5Z",
		"9998-12-31":                "9999-01-01T00:00:00Z",
	} {
		for _, spelling := range []string{text, `"` + text + `"`} {
			c := mustParse(t, withSecrets("[{secret: 0123456789abcdef, until: "+spelling+"}]"))
			until := c.Clients[0].Secrets[0].Until
			if got := until.Format(time.RFC3339Nano); got != want || until.Location() != time.UTC {
				t.Errorf("%s: until %s", spelling, got)
			}
		}
	}
}

func TestParseClientSecrets(t *testing.T) {
	c := mustParse(t, withSecrets("[{secret: 0123456789abcdef, until: 2030-12-31}, {secret: 0123456789abcdeg}, {secret: 0123456789abcdeh}]"), beforeItsDates)
	var got []string
	for _, s := range c.Clients[0].Secrets {
		got = append(got, string([]byte(s.Secret)))
	}
	if want := []string{"0123456789abcdef", "0123456789abcdeg", "0123456789abcdeh"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings %q", c.Warnings)
	}
	if s := c.Clients[0].Secrets; s[0].Until != date("2031-01-01T00:00:00Z") || !s[1].Until.IsZero() || !s[2].Until.IsZero() {
		t.Errorf("got %v", s)
	}
}

// warnings are those of a file at noon of 2030-06-15, UTC.
func warnings(t *testing.T, text string) []string {
	t.Helper()
	return mustParse(t, text, WithNow(date("2030-06-15T12:00:00Z"))).Warnings
}

func TestWarningsClientLockedOut(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"one secret has ended", withSecrets("[{secret: 0123456789abcdef, until: 2030-06-14}, {secret: 0123456789abcdeg}]"),
			[]string{"test.yaml:3: clients[0].secrets[0].until: the secret expired at 2030-06-15T00:00:00Z"}},
		{"all secrets have ended", withSecrets("[{secret: 0123456789abcdef, until: 2030-06-14}, {secret: 0123456789abcdeg, until: 2030-06-15T12:00:00Z}]"),
			[]string{"test.yaml:3: clients[0].secrets[0].until: the secret expired", "test.yaml:3: clients[0].secrets[1].until: the secret expired",
				`test.yaml:3: clients[0].secrets: all of them have expired, so client "alice" is locked out`}},
		{"a secret ends this evening", withSecrets("[{secret: 0123456789abcdef, until: 2030-06-15}]"), nil},
		{"the client has expired", withClientKeys("expires: 2030-06-14"),
			[]string{`test.yaml:3: clients[0].expires: client "alice" expired at 2030-06-15T00:00:00Z and is locked out; remove it`}},
		{"the client expires this evening", withClientKeys("expires: 2030-06-15"), nil},
		{"hours that say nothing", withClientKeys("hours: {}"), []string{"test.yaml:3: clients[0].hours: has no effect"}},
		{"hours of always", withClientKeys("hours: {days: [mon, tue, wed, thu, fri, sat, sun], from: 00:00, to: 24:00, zone: Europe/Berlin}"),
			[]string{"test.yaml:3: clients[0].hours: has no effect"}},
		{"a secret of two clients", replaceInMinimal(aliceLine, aliceLine+"\n"+`  - {id: bob, secret: "hex:30313233343536373839616263646566"}`),
			[]string{`test.yaml:4: clients[1].secret: is also the secret of client "alice" (line 3)`}},
		{"a secret in the lists of two clients", replaceInMinimal(aliceLine, aliceLine+"\n  - {id: bob, secrets: [{secret: 0123456789abcdeg}, {secret: 0123456789abcdef}]}"),
			[]string{`test.yaml:4: clients[1].secrets[1].secret: is also the secret of client "alice" (line 3)`}},
	} {
		t.Run(c.name, func(t *testing.T) { wantWarnings(t, warnings(t, c.text), c.want) })
	}
}

// wantWarnings compares the beginnings of warnings.
func wantWarnings(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, w := range got {
		if strings.Contains(w, "0123456789abcde") {
			t.Errorf("the secret is in the warning %q", w)
		}
	}
}
