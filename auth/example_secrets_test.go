package auth_test

import (
	"fmt"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/protocol"
)

// identity is a client whose secret is read from a file in earnest.
func identity(id, secret string) *protocol.Client {
	c, err := protocol.NewClient(id, []byte(secret))
	if err != nil {
		panic(err)
	}
	return c
}

// A secret in place of all that the client had.
func ExampleSecrets_Set() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"))
	secrets.Set(identity("alice", "fedcba9876543210"))
	secrets.Set(identity("bob", "0123456789abcdef"))
	fmt.Println(len(secrets.Of("alice")), secrets.Len())
	// Output: 1 2
}

// A client who is no more.
func ExampleSecrets_Remove() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"))
	fmt.Println(secrets.Remove("alice"), secrets.Remove("bob"), secrets.Len())
	// Output: true false 0
}

// The whole set at once, as it was read from a file that has changed.
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

// The candidates of a Server. Each time that they are ranged over they are those of that moment.
func ExampleSecrets_All() {
	secrets := auth.NewSecrets(identity("bob", "0123456789abcdef"))
	all := secrets.All()
	secrets.Set(identity("alice", "fedcba9876543210"))
	for c := range all {
		fmt.Println(c) // the id, and never the secret
	}
	// Output:
	// client alice
	// client bob
}

// Whether a client is in the set, and with how many secrets.
func ExampleSecrets_Of() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"))
	secrets.Add(identity("alice", "fedcba9876543210"))
	fmt.Println(len(secrets.Of("alice")), len(secrets.Of("bob")))
	// Output: 2 0
}

// Secrets are counted, and not clients.
func ExampleSecrets_Len() {
	secrets := auth.NewSecrets(identity("alice", "0123456789abcdef"), identity("alice", "fedcba9876543210"))
	fmt.Println(secrets.Len())
	// Output: 2
}

// To follow a set: ask for the channel first, then read, then wait.
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
