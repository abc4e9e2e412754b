// Package auth authenticates a TCP connection: a client identifies itself in the
// first bytes of the stream, with frame v1 or envelope v2 of package protocol,
// and application bytes follow directly.
//
// [Server.Handshake] and [Client.Handshake] are the two sides, each on any
// net.Conn. They read exactly their own bytes and never one beyond, so the
// application continues on the same, unwrapped connection. [Listener] and
// [Dialer] are thin wrappers of them. [PeerOf] and, for HTTP, [ConnContext]
// return the client of a connection that a Listener accepted. [Secrets] is a set
// of clients that can change while it is used.
//
// # All failures look the same
//
// A peer that fails to authenticate must not learn why, nor how far it got.
// Every failed handshake looks the same from outside: its input is read and
// discarded, nothing is sent, and it ends at one deadline, counted from its
// start:
//
//	start                                                              deadline
//	  |--- reading the message ---|--- checks ---> success: proof, and the connection is the caller's
//	  |                           |
//	  |                           '--- any failure: read, discard, read, discard ... -----| error
//	  '--- end of stream, reset: nothing to read any more, so wait -----------------------| error
//
// It makes no difference whether the stream was empty, short, junk, too long,
// stale, replayed, or closed by the peer. Only the end of the context ends a
// handshake early. Handshake does not close the connection; close it the same
// way after every failure (the Listener resets it), or the way of closing
// reveals what the handshake did not.
//
// # Order of the checks
//
// The AEAD opens; the sealed port and client are the expected ones (both in
// package protocol); the time is within the window; a proof, if requested, is
// enabled; [Server.Authorize] agrees; and, last of all, the nonce is claimed
// from [Replay]. A message that fails earlier has used nothing.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package auth
