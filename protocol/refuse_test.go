package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

const testPort = 443

func testClient(t testing.TB, id string) *Client {
	t.Helper()
	c, err := NewClient(id, []byte(strings.Repeat("k", MinSecret)+id))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testRandom() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{7}) }

func testFrame(t testing.TB, c *Client) []byte {
	t.Helper()
	b, err := AppendFrameV1(nil, c, testPort, &Message{Time: 1}, testRandom())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testEnvelope(t testing.TB, c *Client, hint HintMode, bucket int) []byte {
	t.Helper()
	b, err := AppendEnvelopeV2(nil, c, testPort, &Message{Time: 1}, hint, bucket, testRandom())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testKnock(t testing.TB, c *Client) []byte {
	t.Helper()
	b, err := AppendKnock(nil, c, testPort, &KnockMessage{Method: MethodUDP, Time: 1}, testRandom())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// altered returns b with one byte replaced.
func altered(b []byte, at int, value byte) []byte {
	b = bytes.Clone(b)
	b[at] = value
	return b
}

func TestFrameV1HeaderIsChecked(t *testing.T) {
	frame := testFrame(t, testClient(t, "a"))
	for _, c := range []struct {
		name string
		b    []byte
		max  int
		size int
		err  error
	}{
		{"nothing", nil, DefaultMaxFrame, FrameV1Header, ErrNeedMore},
		{"28 bytes", frame[:28], DefaultMaxFrame, FrameV1Header, ErrNeedMore},
		{"header alone", frame[:29], DefaultMaxFrame, len(frame), ErrNeedMore},
		{"one short", frame[:len(frame)-1], DefaultMaxFrame, len(frame), ErrNeedMore},
		{"whole", frame, DefaultMaxFrame, len(frame), nil},
		{"with application data", append(bytes.Clone(frame), 1, 2), DefaultMaxFrame, len(frame), nil},
		{"exactly max", frame, len(frame), len(frame), nil},
		{"over max", frame, len(frame) - 1, 0, ErrTooLong},
		{"over max said by the header", frame[:29], len(frame) - 1, 0, ErrTooLong},
		{"version", altered(frame, 0, 2), DefaultMaxFrame, 0, ErrMalformed},
		{"flag", altered(frame, 1, 2), DefaultMaxFrame, 0, ErrMalformed},
		{"reserved", altered(frame, 2, 1), DefaultMaxFrame, 0, ErrMalformed},
		{"sealed_len 0", altered(frame, 28, 0), DefaultMaxFrame, 0, ErrMalformed},
	} {
		if _, size, err := ParseFrameV1(c.b, c.max); size != c.size || err != c.err {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, size, err, c.size, c.err)
		}
	}
}

func TestKnockHeaderIsChecked(t *testing.T) {
	knock := testKnock(t, testClient(t, "a"))
	for _, c := range []struct {
		name string
		b    []byte
		err  error
	}{
		{"nothing", nil, ErrMalformed},
		{"header alone", knock[:KnockHeader], ErrMalformed},
		{"one short", knock[:len(knock)-1], ErrMalformed},
		{"whole", knock, nil},
		{"one more", append(bytes.Clone(knock), 0), ErrMalformed},
		{"over 1024", make([]byte, MaxKnock+1), ErrTooLong},
		{"flag", altered(knock, knockFlags, 8), ErrMalformed},
		{"reserved", altered(knock, knockReserved, 1), ErrMalformed},
		{"sealed_len 0", altered(knock, knockLength+1, 0), ErrMalformed},
	} {
		if _, err := ParseKnock(c.b); err != c.err {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
}

// opener is any format's Match and Open over one sealed message.
type opener struct {
	name  string
	bytes []byte
	open  func(b []byte, s *Scratch, c *Client, port uint16) (matched bool, err error)
}

func openers(t testing.TB, c *Client) []opener {
	envelope := func(hint HintMode) func([]byte, *Scratch, *Client, uint16) (bool, error) {
		return func(b []byte, s *Scratch, c *Client, port uint16) (bool, error) {
			e, _, err := ParseEnvelopeV2(b, hint)
			if err != nil {
				return false, err
			}
			_, err = e.Open(s, c, port, len(b))
			return e.Match(s, c, port), err
		}
	}
	return []opener{
		{"frame v1", testFrame(t, c), func(b []byte, s *Scratch, c *Client, port uint16) (bool, error) {
			f, _, err := ParseFrameV1(b, DefaultMaxFrame)
			if err != nil {
				return false, err
			}
			_, err = f.Open(s, c, port)
			return f.Match(s, c, port), err
		}},
		{"envelope v2", testEnvelope(t, c, HintRoute, 128), envelope(HintRoute)},
		{"envelope v2 without hint", testEnvelope(t, c, HintNone, 128), envelope(HintNone)},
		{"knock", testKnock(t, c), func(b []byte, s *Scratch, c *Client, port uint16) (bool, error) {
			k, err := ParseKnock(b)
			if err != nil {
				return false, err
			}
			_, err = k.Open(s, c, port)
			return k.Match(s, c, port), err
		}},
	}
}

func TestMessageDetectsFlippedBits(t *testing.T) {
	c, s := testClient(t, "a"), NewScratch()
	for _, o := range openers(t, c) {
		if _, err := o.open(o.bytes, s, c, testPort); err != nil {
			t.Fatalf("%s: %v", o.name, err)
		}
		for i := range o.bytes {
			for bit := range 8 {
				if _, err := o.open(altered(o.bytes, i, o.bytes[i]^1<<bit), s, c, testPort); err == nil {
					t.Fatalf("%s: opens with bit %d of byte %d flipped", o.name, bit, i)
				}
			}
		}
	}
}

func TestMessageBindsClientAndPort(t *testing.T) {
	c, other, s := testClient(t, "a"), testClient(t, "b"), NewScratch()
	// The same secret under another id derives the same keys: only the client
	// hash distinguishes them.
	alias, err := NewClient("alias", c.secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range openers(t, c) {
		if _, err := o.open(o.bytes, s, other, testPort); err != ErrSealed {
			t.Errorf("%s, another client: %v", o.name, err)
		}
		if _, err := o.open(o.bytes, s, alias, testPort); err != ErrClientHash {
			t.Errorf("%s, another id: %v", o.name, err)
		}
		_, err := o.open(o.bytes, s, c, testPort+1)
		if want := map[bool]error{true: ErrPort, false: ErrSealed}[o.name == "frame v1"]; err != want {
			t.Errorf("%s, another port: %v, want %v", o.name, err, want)
		}
		if o.name == "envelope v2 without hint" {
			continue // matches every client
		}
		for _, who := range []struct {
			c    *Client
			port uint16
			want bool
		}{{c, testPort, true}, {other, testPort, false}, {c, testPort + 1, false}} {
			if matched, _ := o.open(o.bytes, s, who.c, who.port); matched != who.want {
				t.Errorf("%s: match(%v, %d) = %v", o.name, who.c, who.port, matched)
			}
		}
	}
}

// resealed seals plain as the content of a knock, with any flags.
func resealed(t *testing.T, c *Client, flags byte, plain []byte) Knock {
	t.Helper()
	s := NewScratch()
	k := Knock{header: make([]byte, KnockHeader)}
	k.header[knockFlags] = flags
	aead, err := chacha20poly1305.New(k.key(s, c))
	if err != nil {
		t.Fatal(err)
	}
	k.sealed = aead.Seal(nil, k.Nonce()[:chacha20poly1305.NonceSize], plain, k.aad(s, testPort))
	return k
}

func TestKnockContentIsChecked(t *testing.T) {
	c, s := testClient(t, "a"), NewScratch()
	session, sequence := make([]byte, 16), make([]byte, SequenceID)
	part := KnockMessage{Method: MethodUDPSeq, SequenceID: sequence, Index: 1, Total: 3}
	for _, tc := range []struct {
		name  string
		flags byte
		m     KnockMessage
		edit  func(plain []byte) []byte
		err   error
	}{
		{"single", 0, KnockMessage{Method: "udp"}, nil, nil},
		{"sequence", flagSequence, part, nil, nil},
		{"sequence without its flag", 0, part, nil, ErrContent},
		{"single with the sequence flag", flagSequence, KnockMessage{Method: "udp"}, nil, ErrContent},
		{"session without its flag", 0, KnockMessage{Method: "udp", SessionID: session}, nil, ErrContent},
		{"session flag without session", flagSession, KnockMessage{Method: "udp"}, nil, ErrContent},
		{"short session", flagSession, KnockMessage{Method: "udp", SessionID: session[:15]}, nil, ErrContent},
		{"short session without flag", 0, KnockMessage{Method: "udp", SessionID: session[:1]}, nil, ErrContent},
		{"extensions without flag", 0, KnockMessage{Method: "udp", TLVs: []TLV{{Type: 9}}}, nil, ErrContent},
		{"flag without extensions", flagExtensions, KnockMessage{Method: "udp"}, nil, ErrContent},
		{"no method", 0, KnockMessage{}, nil, ErrContent},
		{"any method text", 0, KnockMessage{Method: "strange"}, nil, nil},
		{"total 1", flagSequence, KnockMessage{Method: "udp", SequenceID: sequence, Total: 1}, nil, ErrContent},
		{"total 8", flagSequence, KnockMessage{Method: "udp", SequenceID: sequence, Total: 8}, nil, nil},
		{"total 9", flagSequence, KnockMessage{Method: "udp", SequenceID: sequence, Total: 9}, nil, ErrContent},
		{"index = total", flagSequence, KnockMessage{Method: "udp", SequenceID: sequence, Index: 2, Total: 2}, nil, ErrContent},
		{"short sequence id", flagSequence, KnockMessage{Method: "udp", SequenceID: sequence[:8], Total: 2}, nil, ErrContent},
		{"type 0", 0, KnockMessage{Method: "udp"}, func(b []byte) []byte { b[0] = 0; return b }, ErrContent},
		{"type 3", 0, KnockMessage{Method: "udp"}, func(b []byte) []byte { b[0] = 3; return b }, ErrContent},
		{"time beyond int64", 0, KnockMessage{Method: "udp"}, func(b []byte) []byte { b[17] = 0x80; return b }, ErrContent},
		{"trailing byte", 0, KnockMessage{Method: "udp"}, func(b []byte) []byte { return append(b, 0) }, ErrContent},
		{"cut short", 0, KnockMessage{Method: "udp"}, func(b []byte) []byte { return b[:len(b)-1] }, ErrContent},
		{"half a TLV", flagExtensions, KnockMessage{Method: "udp", TLVs: []TLV{{Type: 1, Value: []byte{1, 2}}}},
			func(b []byte) []byte { b[len(b)-3]++; return b }, ErrContent},
	} {
		plain := tc.m.append(nil, c, testPort, nil)
		if tc.edit != nil {
			plain = tc.edit(plain)
		}
		k := resealed(t, c, tc.flags, plain)
		if _, err := k.Open(s, c, testPort); err != tc.err {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.err)
		}
	}
}

func TestNewClientChecksIdentity(t *testing.T) {
	secret := make([]byte, MinSecret)
	for _, c := range []struct {
		id     string
		secret []byte
		err    error
	}{
		{"a", secret, nil},
		{strings.Repeat("a", MaxClientID), secret, nil},
		{"", secret, ErrClientID},
		{strings.Repeat("a", MaxClientID+1), secret, ErrClientID},
		{"a\x00b", secret, ErrClientID},
		{"a\xff", secret, ErrClientID},
		{"a", secret[:MinSecret-1], ErrShortSecret},
	} {
		if _, err := NewClient(c.id, c.secret); !errors.Is(err, c.err) {
			t.Errorf("%.8q, %d: %v, want %v", c.id, len(c.secret), err, c.err)
		}
	}
}

func TestClientNeverPrintsItsSecret(t *testing.T) {
	c, err := NewClient("alice", []byte("SECRETSECRETSECRET"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%T", "%p"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", c, *c)
	}
	logger := slog.New(slog.NewJSONHandler(&out, nil))
	logger.Info("x", "client", c, "copy", *c)
	text := strings.ToLower(out.String())
	for _, leak := range []string{"secretsecret", fmt.Sprintf("%x", "SECRET"), "83 69 67"} {
		if strings.Contains(text, leak) {
			t.Errorf("printed %q:\n%s", leak, text)
		}
	}
	if !strings.Contains(text, "alice") {
		t.Error("the id is not printed")
	}
}

func TestClientEqual(t *testing.T) {
	a, again := testClient(t, "a"), testClient(t, "a")
	other, err := NewClient("a", []byte(strings.Repeat("o", MinSecret)))
	if err != nil {
		t.Fatal(err)
	}
	alias, err := NewClient("alias", a.secret)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Equal(again) || a.Equal(other) || a.Equal(alias) || a.Equal(nil) || (*Client)(nil).Equal(a) {
		t.Error("Equal compares something else")
	}
}
