// Command ssh runs a command on a hidden SSH server, with
// golang.org/x/crypto/ssh.
//
//	ssh -profile FILE -service ssh -keys DIR COMMAND
//
// With -serve it is a server that runs nothing and echoes the command:
//
//	ssh -serve 10.1.3.2:2222 -keys DIR
//
// Both use the keys in DIR, which the server creates if they are missing: host
// and host.pub, and user and user.pub of the client.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/knockgw/knockgw/examples/internal/target"
)

// timeout is the time limit of the SSH handshake; the dialer has its own.
const timeout = 20 * time.Second

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	which := target.Define("ssh")
	address := flag.String("serve", "", "run the server at this `address`")
	keys := flag.String("keys", "keys", "the `directory` of the keys")
	flag.Parse()
	command := strings.Join(flag.Args(), " ")
	if command == "" {
		command = "uptime"
	}
	var err error
	if *address != "" {
		err = serve(ctx, *address, *keys)
	} else {
		err = execute(ctx, which, *keys, command)
	}
	if err != nil {
		log.Fatal("ssh: ", err)
	}
}

// execute runs a command and prints its output.
func execute(ctx context.Context, which target.Flags, keys, command string) (err error) {
	endpoint, err := which.Find()
	if err != nil {
		return err
	}
	user, err := readKey(filepath.Join(keys, "user"))
	if err != nil {
		return err
	}
	host, err := readPublic(filepath.Join(keys, "host.pub"))
	if err != nil {
		return err
	}

	dialer, err := endpoint.Dialer()
	if err != nil {
		return err
	}
	conn, err := dialer.DialContext(ctx, "tcp", endpoint.Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}

	c, channels, requests, err := ssh.NewClientConn(conn, endpoint.Service.Name, &ssh.ClientConfig{
		User: "user", Auth: []ssh.AuthMethod{ssh.PublicKeys(user)}, HostKeyCallback: ssh.FixedHostKey(host),
	})
	if err != nil {
		return err
	}
	client := ssh.NewClient(c, channels, requests)
	defer func() { err = errors.Join(err, client.Close()) }()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}

	session, err := client.NewSession()
	if err != nil {
		return err
	}
	out, err := session.CombinedOutput(command)
	fmt.Print(string(out))
	return err
}
