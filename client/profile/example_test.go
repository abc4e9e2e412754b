package profile_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/protocol"
)

// office is the output of knockgw client add, with another secret.
const office = `profile: office
client: alice
secret: "hex:3031323334353637383961626364656630313233343536373839616263646566"
services:
  - name: ssh
    address: 10.77.0.1:22
    auth: {proof: true}
  - name: lab
    address: 10.77.1.0/24:22
`

// temporary returns a directory for profiles, and a function that removes it.
func temporary() (profile.Directory, func()) {
	dir, err := os.MkdirTemp("", "profiles")
	if err != nil {
		panic(err)
	}
	return profile.Directory(filepath.Join(dir, "knockgw")), func() { _ = os.RemoveAll(dir) }
}

// A profile is a readable text. Printing it does not show its secret.
func ExampleParse() {
	p, err := profile.Parse("office.yaml", []byte(office))
	fmt.Println(p, err)
	for _, s := range p.Services {
		fmt.Println(s.Name, s.Address, s.Mode, s.Method)
	}
	_, err = profile.Parse("office.yaml", []byte(office+"sercives: []\n"))
	fmt.Println(err)
	// Output:
	// profile office <nil>
	// ssh 10.77.0.1:22 knock-auth udp
	// lab 10.77.1.0/24:22 knock-auth udp
	// office.yaml:10: unknown key "sercives"; did you mean services?
}

// A URI is the same profile on one line.
func ExampleProfile_URI() {
	p, err := profile.Parse("office.yaml", []byte(office))
	if err != nil {
		fmt.Println(err)
		return
	}
	uri, err := p.URI()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(uri[:len("knockgw://1/")])
	again, err := profile.ParseURI(uri)
	fmt.Println(again, err)
	// Output:
	// knockgw://1/
	// profile office <nil>
}

// The error of an incomplete URI contains nothing of it.
func ExampleParseURI() {
	_, err := profile.ParseURI("knockgw://1/hI5NCsIw")
	fmt.Println(err)
	// Output:
	// the URI of a profile is damaged or incomplete; copy all of it, on one line
}

// A program that makes profiles sets the fields that are not defaults.
func ExampleProfile_Marshal() {
	p := &profile.Profile{
		Name: "office", Client: "alice", Secret: []byte("0123456789abcdef0123456789abcdef"),
		Services: []profile.Service{{Name: "wiki", Address: "wiki.example.org:443", Auth: profile.Auth{Proof: true}}},
	}
	text, err := p.Marshal()
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// # A knockgw profile. It contains a secret: do not share it.
	// version: 1
	// profile: office
	// client: alice
	// secret: hex:3031323334353637383961626364656630313233343536373839616263646566
	// services:
	//   - name: wiki
	//     address: wiki.example.org:443
	//     mode: knock-auth
	//     method: udp
	//     auth: {proof: true}
	// <nil>
}

// A service is found by its name or by its address.
func ExampleProfile_Find() {
	p, err := profile.Parse("office.yaml", []byte(office))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, target := range []string{"ssh", "10.77.1.7:22", "mail"} {
		endpoint, err := p.Find(target)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(endpoint, endpoint.Address)
	}
	// Output:
	// office/ssh 10.77.0.1:22
	// office/lab 10.77.1.7:22
	// "mail" is not in the profile office; known: ssh (10.77.0.1:22), lab (10.77.1.0/24:22)
}

// The dialer of an endpoint knocks and authenticates as the profile specifies.
func ExampleEndpoint_Dialer() {
	p, err := profile.Parse("office.yaml", []byte(office))
	if err != nil {
		fmt.Println(err)
		return
	}
	endpoint, err := p.Find("ssh")
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := endpoint.Dialer()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Identity, "knocks by", d.Method, "at port", d.KnockPort, "for", endpoint.Address)
	// conn, err := d.DialContext(ctx, "tcp", endpoint.Address)
	// Output:
	// client alice knocks by udp at port 62201 for 10.77.0.1:22
}

// With a profile, an http.Client reaches a hidden service by its name. (The service
// of this example is in mode auth, so that no knock is needed.)
func ExampleProfile_DialContext() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	p := &profile.Profile{
		Name: "office", Client: "alice", Secret: []byte("0123456789abcdef"),
		Services: []profile.Service{{Name: "wiki", Address: inner.Addr().String(), Mode: profile.ModeAuth, Port: 80}},
	}
	alice, err := protocol.NewClient(p.Client, p.Secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	listener := auth.NewListener(inner, &auth.Server{Port: 80, Clients: slices.Values([]*protocol.Client{alice})}, auth.ListenerOptions{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "the hidden wiki")
	})}
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()

	transport := &http.Transport{DialContext: p.DialContext}
	answer, err := (&http.Client{Transport: transport}).Get("http://wiki/")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	fmt.Println(string(body), err)

	transport.CloseIdleConnections()
	_ = server.Close()
	<-done
	// Output:
	// the hidden wiki <nil>
}

// As knockgw import does: save a profile, and find its services.
func ExampleDirectory() {
	dir, remove := temporary()
	defer remove()
	p, err := profile.Parse("office.yaml", []byte(office))
	if err != nil {
		fmt.Println(err)
		return
	}
	path, err := dir.Save(p, false)
	fmt.Println(filepath.Base(path), err)

	endpoint, err := dir.Find("office/ssh")
	fmt.Println(endpoint, err)

	all, err := dir.Load()
	fmt.Println(all, err)

	fmt.Println(dir.Remove("office"))
	// Output:
	// office.yaml <nil>
	// office/ssh <nil>
	// [profile office] <nil>
	// <nil>
}

// Load one profile from any file.
func ExampleLoad() {
	dir, remove := temporary()
	defer remove()
	p, err := profile.Parse("office.yaml", []byte(office))
	if err != nil {
		fmt.Println(err)
		return
	}
	path, err := dir.Save(p, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err = profile.Load(path)
	fmt.Println(p, err)
	// Output:
	// profile office <nil>
}

// The user can choose the directory of profiles.
func ExampleDefaultDirectory() {
	old, was := os.LookupEnv(profile.DirectoryVariable)
	_ = os.Setenv(profile.DirectoryVariable, "/home/alice/profiles")
	dir, err := profile.DefaultDirectory()
	fmt.Println(dir, err)
	if _ = os.Unsetenv(profile.DirectoryVariable); was {
		_ = os.Setenv(profile.DirectoryVariable, old)
	}
	// Output:
	// /home/alice/profiles <nil>
}

// Valid names of profiles and services.
func ExampleIsName() {
	fmt.Println(profile.IsName("edge-1.example"), profile.IsName("../edge-1"))
	// Output:
	// true false
}

// The clients of a proxy use a host name: SERVICE.PROFILE.
func ExampleFindDotted() {
	p, err := profile.Parse("office.yaml", []byte(office))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(profile.FindDotted([]*profile.Profile{p}, "ssh.office:22"))
	// Output: office/ssh
}
