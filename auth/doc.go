// Package auth authenticates one TCP connection: a client says who it is in the first bytes of the
// stream, in frame v1 or envelope v2 of package protocol, and application bytes follow directly.
//
// [Server.Handshake] and [Client.Handshake] are the two sides, each on any net.Conn. They read exactly
// the bytes that are theirs and never one beyond, so the connection itself, unwrapped, is what the
// application goes on with. [Listener] and [Dialer] are thin covers over them; [PeerOf] and, for HTTP,
// [ConnContext] tell who is at the other end of what a Listener has accepted. [Secrets] is a set of
// clients that can change meanwhile.
//
// # All failures are one
//
// Whoever fails to authenticate must not learn why, nor how far it got. Every failed handshake looks
// the same from outside: its input is read and thrown away, nothing is sent, and it ends at the one
// deadline, counted from its start:
//
//	start                                                              deadline
//	  |--- reading the message ---|--- checks ---> success: proof, and the connection is the caller's
//	  |                           |
//	  |                           '--- any failure: read, discard, read, discard ... -----| error
//	  '--- end of stream, reset: nothing to read any more, so wait -----------------------| error
//
// It makes no difference whether the stream was empty, short, junk, too long, stale, replayed, or
// closed by the peer. Only the end of the context ends a handshake early. Handshake does not close the
// connection; close it the same way every time (the Listener resets it), or the manner of closing says
// what the handshake did not.
//
// # Order of the checks
//
// The AEAD opens; the sealed port and client are the expected ones (both in package protocol); the
// time is within the window; a proof, if it is asked for, is to be had; [Server.Authorize] agrees; and
// last of all the nonce is claimed from [Replay]. A message that fails earlier has used up nothing.
//
// # Compatibility
//
// The package is part of the module's API: from version 1.0.0 on, programs that
// use its exported names keep compiling and working within a major version.
package auth
