package migrate

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/config"
)

// FuzzConvert converts arbitrary files: each must be an error with the file's
// name, or a result that the gateway or a client accepts, without secrets in
// the notes or in a text to print.
func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Add([]byte("a: &a {b: *a}\n<<: *a\n"), false)
	f.Add([]byte(good+"knock: {udp_listen: '[::1]:0'}"), true)
	f.Fuzz(func(t *testing.T, data []byte, asked bool) {
		if strings.Contains(string(data), "secret_file") {
			t.Skip("reads files")
		}
		o := Options{}
		if asked {
			o.Listen = netip.MustParseAddrPort("10.77.0.1:0")
		}
		r, err := Convert("f.yaml", data, o)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.yaml:") {
				t.Errorf("an error without the file's name: %v", err)
			}
			return
		}
		o.TextOnly = true
		s, err := Convert("f.yaml", data, o)
		if err != nil || len(s.Files) != 1 {
			t.Fatalf("its text alone: %v", err)
		}
		main := r.Files[0]
		if !r.Server {
			p, err := profile.Parse(main.Name, main.Data)
			if err != nil {
				t.Fatalf("%v\n%s", err, main.Data)
			}
			if containsSecret(s, p.Secret.Reveal()) {
				t.Errorf("the secret is shown:\n%s", format(s))
			}
			if _, err := profile.Parse(main.Name, s.Files[0].Data); err == nil {
				t.Errorf("a profile with a gap passes:\n%s", s.Files[0].Data)
			}
			return
		}
		whole := string(main.Data)
		for _, key := range r.Files[1:] {
			secret := strings.TrimSuffix(string(key.Data), "\n")
			if containsSecret(s, secret) {
				t.Errorf("a secret is shown:\n%s", format(s))
			}
			whole = strings.Replace(whole, "secret_file: "+key.Name+"\n", "secret: "+secret+"\n", 1)
		}
		if _, err := config.Parse(main.Name, []byte(whole)); err != nil {
			t.Fatalf("%v\n%s", err, whole)
		}
	})
}

// containsSecret reports whether a result contains a secret.
func containsSecret(r *Result, secret string) bool {
	return strings.Contains(string(format(r)), secret)
}
