package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/knockgw/knockgw/internal/audit"
)

// This example writes an event to a file that rotates. Add never blocks; Run
// writes.
func Example() {
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "audit.json")
	file, err := audit.OpenFile(audit.FileOptions{Path: path})
	if err != nil {
		fmt.Println(err)
		return
	}
	log := audit.New(file, audit.Options{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- log.Run(ctx) }()

	log.Add(audit.Event{
		Time: time.Date(2026, 11, 23, 2, 30, 3, 0, time.UTC), Kind: audit.Knock,
		Client: "alice", Source: "192.0.2.7", Service: "ssh", Method: "udp",
	})

	stop() // what waits is written before Run returns
	if err := <-done; err != nil {
		fmt.Println(err)
		return
	}
	text, err := os.ReadFile(path)
	fmt.Print(string(text))
	if err != nil {
		fmt.Println(err)
	}
	// Output: {"time":"2026-11-23T02:30:03Z","event":"knock","client":"alice","source":"192.0.2.7","service":"ssh","method":"udp"}
}
