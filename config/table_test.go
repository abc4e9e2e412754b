package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestSecretNeverPrinted(t *testing.T) {
	c := mustParse(t, minimal)
	client := c.Clients[0]
	secret := client.Secrets[0]
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", secret.Secret, secret, client, *c)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	if b, err = yaml.Marshal(c); err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	slog.New(slog.NewTextHandler(&out, nil)).Info("client", "secret", secret.Secret, "secrets", client.Secrets, "client", client)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("client", "secret", secret.Secret, "secrets", client.Secrets, "client", client)
	for _, leak := range []string{"0123456789abcdef", "30313233", "48, 49", "48 49", "MDEyMzQ1"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q in the output:\n%s", leak, out.String())
		}
	}
}

func TestTable(t *testing.T) {
	c, err := Load(copyExample(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(c.Table())
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"service":"ssh","listen":"10.77.0.1:22","mode":"knock-auth","visible":false,"knock":["udp","udp-seq","tcp-syn","tcp-syn-seq","udp-v2"],"auth":["v2","v1"],"clients":["alice","bob"],"client_count":2,"upstream":"10.0.2.2:22"},` +
		`{"service":"database","listen":"[fd77::5]:5432","mode":"knock","visible":false,"knock":["udp","udp-seq","tcp-syn","tcp-syn-seq","udp-v2"],"auth":[],"clients":["alice","bob"],"client_count":2,"upstream":"[fd00:2::5]:5432"},` +
		`{"service":"web","listen":"10.77.0.2:443","mode":"knock-auth","visible":true,"knock":["udp","udp-seq","tcp-syn","tcp-syn-seq","udp-v2"],"auth":["v2","v1"],"clients":["bob"],"client_count":1,"upstream":"www.internal.example:8443"},` +
		`{"service":"panel","listen":"10.77.0.128/28:8080","mode":"auth","visible":true,"knock":[],"auth":["v2"],"clients":["bob","carol"],"client_count":2,"upstream":"127.0.0.1:8080"}]`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestTableMaxClients(t *testing.T) {
	c := &Config{Services: []Service{{Name: "a"}, {Name: "b"}}}
	for i := range 3 * MaxRowClients {
		cl := Client{ID: strconv.Itoa(i)}
		if i%3 == 1 {
			cl.Services = []string{"b"}
		}
		c.Clients = append(c.Clients, cl)
	}
	for i, r := range c.Table() {
		if want := (2 + i) * MaxRowClients; r.NumClients != want || len(r.Clients) != MaxRowClients {
			t.Errorf("%s: %d clients, want %d; %d are named", r.Service, r.NumClients, want, len(r.Clients))
		}
		for n, id := range r.Clients {
			if want := []int{n/2*3 + n%2*2, n}[i]; id != strconv.Itoa(want) {
				t.Fatalf("%s: client %d is %s, want %d", r.Service, n, id, want)
			}
		}
	}
}
