package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// serve runs an ordinary SSH server for one user.
func serve(ctx context.Context, address, keys string) error {
	if err := makeKeys(keys); err != nil {
		return err
	}
	host, err := readKey(filepath.Join(keys, "host"))
	if err != nil {
		return err
	}
	user, err := readPublic(filepath.Join(keys, "user.pub"))
	if err != nil {
		return err
	}

	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if string(key.Marshal()) != string(user.Marshal()) {
				return nil, errors.New("not the user's key")
			}
			return nil, nil
		},
	}
	config.AddHostKey(host)

	var listener net.ListenConfig
	l, err := listener.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	log.Println("listening on", l.Addr())
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go handleConn(conn, config) // until the connection or the process ends
	}
}

// handleConn serves a connection.
func handleConn(conn net.Conn, config *ssh.ServerConfig) {
	defer func() { _ = conn.Close() }()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		log.Print(err)
		return
	}
	go ssh.DiscardRequests(requests) // ends with the connection
	for request := range channels {
		if request.ChannelType() != "session" {
			_ = request.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := request.Accept()
		if err != nil {
			return
		}
		go handleSession(channel, requests) // ends with the connection
	}
}

// handleSession serves a session: it echoes the command and reports success.
func handleSession(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer func() { _ = channel.Close() }()
	for r := range requests {
		var command struct{ Text string }
		exec := r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) == nil
		_ = r.Reply(exec, nil)
		if !exec {
			continue
		}
		fmt.Fprintf(channel, "behind the gateway received: %s\n", command.Text)
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{0}))
		return
	}
}

// makeKeys creates missing keys.
func makeKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"host", "user"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := makeKey(path); err != nil {
			return fmt.Errorf("create the key %s: %w", path, err)
		}
	}
	return nil
}
