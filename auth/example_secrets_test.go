package auth_test

import (
	"fmt"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// identity returns a client. Programs read the secret from a file.
func identity(id, secret string) *protocol.Client {
	c, err := protocol.NewClient(id, []byte(secret))
	if err != nil {
		panic(err)
	}
	return c
}

// Set replaces all secrets of a client.
func ExampleSecrets_Set() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"))
	secrets.Set(identity("alice", "fedcba9876543210"))
	secrets.Set(identity("bob", "0123456789abcdef"))
	fmt.Println(len(secrets.Of("alice")), secrets.Len())
	// Output: 1 2
}

// Remove removes a client.
func ExampleSecrets_Remove() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"))
	fmt.Println(secrets.Remove("alice"), secrets.Remove("bob"), secrets.Len())
	// Output: true false 0
}

// Replace replaces the whole set, for instance after a file has changed.
func ExampleSecrets_Replace() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"))
	secrets.Replace(identity("bob", "0123456789abcdef"), identity("carol", "fedcba9876543210"))
	for c := range secrets.All() {
		fmt.Println(c.ID())
	}
	// Output:
	// bob
	// carol
}

// The candidates of a Server. Each iteration sees the current set.
func ExampleSecrets_All() {
	secrets := auth.NewSecrets(identity("bob", "0123456789abcdef"))
	all := secrets.All()
	secrets.Set(identity("alice", "fedcba9876543210"))
	for c := range all {
		fmt.Println(c) // the ID, never the secret
	}
	// Output:
	// client alice
	// client bob
}

// The secrets of a client; none if it is not in the set.
func ExampleSecrets_Of() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"))
	secrets.Add(identity("alice", "fedcba9876543210"))
	fmt.Println(len(secrets.Of("alice")), len(secrets.Of("bob")))
	// Output: 2 0
}

// Len counts secrets, not clients.
func ExampleSecrets_Len() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"), identity("alice", "fedcba9876543210"))
	fmt.Println(secrets.Len())
	// Output: 2
}

// To follow a set: get the channel first, then read, then wait.
func ExampleSecrets_Changed() {
	var secrets auth.Secrets
	changed := secrets.Changed()
	fmt.Println(secrets.Len())
	go secrets.Set(identity("alice", "0123456789abcdef"))
	<-changed
	fmt.Println(secrets.Len())
	// Output:
	// 0
	// 1
}
