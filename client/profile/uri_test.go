package profile

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
)

func TestURIRoundTrip(t *testing.T) {
	for name, text := range map[string]string{
		"the least": minimal, "every key": fullProfile,
		"odd characters": replaceInMinimal("alice", `"a\x01\x7f\x85\u2028\ufeff\U0001f511 \"'#:{}"`),
	} {
		t.Run(name, func(t *testing.T) { roundTrip(t, mustParse(t, text)) })
	}
}

// roundTrip checks that both forms of a profile are parsed to the same profile.
func roundTrip(t *testing.T, p *Profile) {
	t.Helper()
	text, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	fromFile, err := Parse("again.yaml", text)
	if err != nil || !reflect.DeepEqual(p, fromFile) {
		t.Errorf("as a file: %v\n%s", err, text)
	}
	uri, err := p.URI()
	if err != nil {
		t.Fatal(err)
	}
	fromURI, err := ParseURI(" " + uri + "\n")
	if err != nil || !reflect.DeepEqual(p, fromURI) {
		t.Errorf("as a URI: %v\n%s", err, uri)
	}
	if again, err := fromURI.URI(); err != nil || again != uri {
		t.Errorf("%s became %s, %v", uri, again, err)
	}
}

func TestMarshalZeroValues(t *testing.T) {
	p := &Profile{Name: "office", Client: "alice", Secret: []byte("0123456789abcdef0123456789abcdef7"),
		Services: []Service{{Name: "ssh", Address: "10.77.0.1:22"}}}
	text, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := mustParse(t, string(text)), mustParse(t, minimal); !reflect.DeepEqual(got, want) {
		t.Errorf("it became\n%s", text)
	}
}

func TestMarshalInvalid(t *testing.T) {
	p := mustParse(t, minimal)
	p.Services[0].Mode = "open"
	if _, err := p.Marshal(); err == nil || !strings.Contains(err.Error(), "write auth, knock or knock-auth") {
		t.Errorf("Marshal: %v", err)
	}
	if _, err := p.URI(); err == nil {
		t.Error("there is a URI of it")
	}
	p = mustParse(t, minimal)
	p.Client = "a\xffb"
	if _, err := p.Marshal(); err == nil {
		t.Error("a client id that is not UTF-8 was written")
	}
}

func TestParseURIInvalid(t *testing.T) {
	uri, err := mustParse(t, minimal).URI()
	if err != nil {
		t.Fatal(err)
	}
	pack := func(text string) string {
		var b bytes.Buffer
		z, _ := flate.NewWriter(&b, flate.BestCompression)
		z.Write([]byte(text))
		z.Close()
		return prefixURI + base64.RawURLEncoding.EncodeToString(b.Bytes())
	}
	for name, c := range map[string]struct{ uri, says string }{
		"empty":                {"", "does not start with knockgw://"},
		"another scheme":       {"https://example.org/", "does not start with knockgw://"},
		"another version":      {strings.Replace(uri, "//1/", "//2/", 1), "newer knockgw"},
		"incomplete":           {uri[:len(uri)-10], "incomplete"},
		"cut off in its first": {prefixURI, "incomplete"},
		"a letter changed":     {uri[:30] + "!" + uri[31:], "damaged"},
		"something behind it":  {uri + "AAAA", "damaged"},
		"no JSON":              {pack(minimal), "damaged"},
		"JSON of another sort": {pack(`{"client":"alice","pasword":"hunter2"}`), "pasword"},
		"a bomb":               {pack(strings.Repeat(" ", maxFile+1)), "more than 65536 bytes"},
		"very long":            {prefixURI + strings.Repeat("A", maxURI+1), "more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseURI(c.uri)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("the error is %v, and should say %q", err, c.says)
			}
			if strings.Contains(err.Error(), "hunter2") || len(c.uri) > 40 && strings.Contains(err.Error(), c.uri[20:40]) {
				t.Errorf("the URI is in the error: %v", err)
			}
		})
	}
}

func TestURILength(t *testing.T) {
	p := mustParse(t, minimal+"    auth: {proof: true}\n"+
		"  - {name: postgres, address: \"db.example.org:5432\", auth: {proof: true}}\n"+
		"  - {name: wiki, address: \"10.77.0.3:443\", auth: {proof: true}}\n")
	uri, err := p.URI()
	if err != nil {
		t.Fatal(err)
	}
	const fits = 367 // bytes in a QR code of 65 by 65 modules and the lowest correction
	if len(uri) > fits {
		t.Errorf("it has %d bytes: %s", len(uri), uri)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{minimal, fullProfile, "", "{}", "a: &a [*a]", "profile: office\nservices: [{}]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := Parse("fuzz.yaml", data); err == nil {
			roundTrip(t, p)
		}
	})
}

func FuzzParseURI(f *testing.F) {
	for _, seed := range []string{minimal, fullProfile} {
		p, err := Parse("seed", []byte(seed))
		if err != nil {
			f.Fatal(err)
		}
		uri, err := p.URI()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uri)
	}
	f.Add("knockgw://1/")
	f.Fuzz(func(t *testing.T, uri string) {
		if p, err := ParseURI(uri); err == nil {
			roundTrip(t, p)
		}
	})
}
