// Package knock receives the knocks of clients, opens them and decides what each
// of them earns.
//
// It has two halves, joined by two bounded queues:
//
//	packet path    Pipeline.Datagram, Pipeline.MatchSYN, Pipeline.SYN: only what
//	               needs no key and no store; the gate's lock is held
//	worker         Worker.Run: cryptography, the replay store, sequences; the
//	               lock is held for look-ups only
//
// The steps of a knock are listed in process.go. The package knows no gate: it
// asks for the policy in force, marks sources as pending and hands over each
// Decision through functions of Options.
package knock
