package protocol

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

const knockV2Vectors = "testdata/udp-v2.json"

// knockV2Vector is a case of testdata/udp-v2.json: what goes into a knock and
// what comes out. Refused is empty, or the Label of the Error that Open gives.
type knockV2Vector struct {
	Name string `json:"name"`
	identity
	Gateway    string   `json:"gateway"`
	Slot       int64    `json:"slot"`
	Nonce      hexBytes `json:"nonce"`
	Version    byte     `json:"version"`
	Flags      byte     `json:"flags"`
	UnixMS     uint64   `json:"unix_ms"`
	SealedPort uint16   `json:"sealed_port"`
	SessionID  hexBytes `json:"session_id"`
	Source     hexBytes `json:"source"`
	SourcePort uint16   `json:"source_port"`
	Reserved   hexBytes `json:"reserved"`
	Refused    string   `json:"refused,omitempty"`

	Tag      hexBytes `json:"tag"`
	Key      hexBytes `json:"key"`
	AAD      hexBytes `json:"aad"`
	Plain    hexBytes `json:"plaintext"`
	Datagram hexBytes `json:"datagram"`
}

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// seal computes the result. It implements the specification independently of the
// package: no constant, layout or MAC is shared.
func (v *knockV2Vector) seal(t testing.TB) {
	t.Helper()
	join := func(parts ...any) []byte {
		var b []byte
		for _, part := range parts {
			var err error
			switch part := part.(type) {
			case string:
				b = append(b, part...)
			case hexBytes:
				b = append(b, part...)
			default:
				b, err = binary.Append(b, binary.BigEndian, part)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	mac := func(msg []byte) []byte {
		h := hmac.New(sha256.New, v.Secret)
		h.Write(msg)
		return h.Sum(nil)
	}
	context := join(uint16(len(v.Gateway)), v.Gateway, v.Port, v.Slot)
	who := join(uint16(len(v.ClientID)), v.ClientID)
	v.Tag = mac(join("knockgw udp-v2 tag", who, context))
	v.Key = mac(join("knockgw udp-v2 key", who, context))
	v.AAD = join("knockgw udp-v2", v.Tag[:10], context)
	v.Plain = join(v.Version, v.Flags, v.UnixMS, v.Tag[10:26], v.SealedPort, v.SessionID, v.Source, v.SourcePort, v.Reserved)
	aead, err := chacha20poly1305.NewX(v.Key)
	if err != nil {
		t.Fatal(err)
	}
	v.Datagram = join(v.Tag[:10], v.Nonce, aead.Seal(nil, v.Nonce, v.Plain, v.AAD))
	if len(v.Datagram) != 128 {
		t.Fatalf("%s: %d bytes", v.Name, len(v.Datagram))
	}
}

func (v *knockV2Vector) message() KnockV2Message {
	m := KnockV2Message{Time: int64(v.UnixMS), SourcePort: v.SourcePort}
	copy(m.SessionID[:], v.SessionID)
	if v.Flags&2 != 0 {
		m.Source = netip.AddrFrom16([16]byte(v.Source)).Unmap()
	}
	return m
}

// knockV2Cases are the vectors' inputs: the first in full, each other by what
// differs.
func knockV2Cases() []knockV2Vector {
	zero := hexBytes(make([]byte, 16))
	source4 := hexBytes("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07") // 192.0.2.7
	source6 := hexBytes("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07")
	session := hexBytes("session-id-of-16")
	var cases []knockV2Vector
	add := func(name string, edit func(v *knockV2Vector)) {
		n := byte(len(cases))
		v := knockV2Vector{
			Name:     name,
			identity: identity{ClientID: "client-001", Secret: hexBytes("0123456789abcdef0123456789abcdef"), Port: 8443},
			Gateway:  "gw.example.net", Slot: 59666666,
			Version: 2, Flags: 1, UnixMS: 1790000000123, SealedPort: 8443, SessionID: session, Source: zero, Reserved: zero,
		}
		for i := range byte(24) {
			v.Nonce = append(v.Nonce, n+i)
		}
		edit(&v)
		cases = append(cases, v)
	}
	refuse := func(why Error, name string, edit func(v *knockV2Vector)) {
		add(name, func(v *knockV2Vector) { v.Refused = why.Label(); edit(v) })
	}
	add("a session id", func(*knockV2Vector) {})
	add("bound to an IPv4 source", func(v *knockV2Vector) { v.Flags, v.Source = 3, source4 })
	add("bound to an IPv6 source", func(v *knockV2Vector) { v.Flags, v.Source = 3, source6 })
	add("bound to a TCP source port", func(v *knockV2Vector) { v.Flags, v.SourcePort = 5, 40000 })
	add("bound to both", func(v *knockV2Vector) { v.Flags, v.Source, v.SourcePort = 7, source4, 65535 })
	add("bound to both, no session id", func(v *knockV2Vector) {
		v.Flags, v.Source, v.SourcePort, v.SessionID = 6, source6, 1, zero
	})
	add("nothing optional", func(v *knockV2Vector) { v.Flags, v.SessionID = 0, zero })
	add("another knock of the first's slot", func(v *knockV2Vector) { v.UnixMS++ })
	add("the next slot", func(v *knockV2Vector) { v.Slot++; v.UnixMS += 30000 })
	add("another port", func(v *knockV2Vector) { v.Port, v.SealedPort = 22, 22 })
	add("no gateway identity", func(v *knockV2Vector) { v.Gateway = "" })
	add("gateway identity of 255 bytes", func(v *knockV2Vector) { v.Gateway = strings.Repeat("g", 255) })
	add("gateway identity beyond ASCII", func(v *knockV2Vector) { v.Gateway = "Tor 7, Süd" })
	add("client id beyond ASCII", func(v *knockV2Vector) { v.ClientID = "å中" })
	add("client id of 300 bytes", func(v *knockV2Vector) { v.ClientID = strings.Repeat("c", 300) })
	add("secret of 16 bytes", func(v *knockV2Vector) { v.Secret = v.Secret[:16] })
	add("secret longer than a SHA-256 block", func(v *knockV2Vector) { v.Secret = bytes.Repeat([]byte{0xa5}, 65) })
	add("least", func(v *knockV2Vector) { v.Port, v.SealedPort, v.Slot, v.UnixMS = 0, 0, -1, 0 })
	add("largest", func(v *knockV2Vector) {
		v.Port, v.SealedPort, v.Slot, v.UnixMS = 65535, 65535, 1<<63-1, 1<<63-1
	})

	refuse(ErrPort, "sealed for another port", func(v *knockV2Vector) { v.SealedPort++ })
	refuse(ErrContent, "version 1", func(v *knockV2Vector) { v.Version = 1 })
	refuse(ErrContent, "unknown flag", func(v *knockV2Vector) { v.Flags |= 8 })
	refuse(ErrContent, "session flag without session", func(v *knockV2Vector) { v.SessionID = zero })
	refuse(ErrContent, "session without its flag", func(v *knockV2Vector) { v.Flags = 0 })
	refuse(ErrContent, "source flag without source", func(v *knockV2Vector) { v.Flags = 3 })
	refuse(ErrContent, "source without its flag", func(v *knockV2Vector) { v.Source = source6 })
	refuse(ErrContent, "source 0.0.0.0", func(v *knockV2Vector) {
		v.Flags, v.Source = 3, append(source4[:12:12], 0, 0, 0, 0)
	})
	refuse(ErrContent, "source port flag without source port", func(v *knockV2Vector) { v.Flags = 5 })
	refuse(ErrContent, "source port without its flag", func(v *knockV2Vector) { v.SourcePort = 1 })
	refuse(ErrContent, "time of 2^63", func(v *knockV2Vector) { v.UnixMS = 1 << 63 })
	refuse(ErrContent, "first reserved byte", func(v *knockV2Vector) { v.Reserved = append(hexBytes{1}, zero[1:]...) })
	refuse(ErrContent, "last reserved byte", func(v *knockV2Vector) { v.Reserved = append(zero[1:16:16], 0x80) })
	return cases
}

func loadKnockV2Vectors(t testing.TB) []knockV2Vector {
	t.Helper()
	raw, err := os.ReadFile(knockV2Vectors)
	if err != nil {
		t.Fatal(err)
	}
	var all []knockV2Vector
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// With KNOCKGW_WRITE_VECTORS set, writes the file; without, holds it against
// the specification. A change of the file is a change of the format.
func TestKnockV2VectorsMatchSpecification(t *testing.T) {
	cases := knockV2Cases()
	for i := range cases {
		cases[i].seal(t)
	}
	want, err := json.MarshalIndent(cases, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if os.Getenv("KNOCKGW_WRITE_VECTORS") != "" {
		if err := os.WriteFile(knockV2Vectors, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(knockV2Vectors)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the specification makes of its inputs", knockV2Vectors)
	}
}

func TestKnockV2VectorsDecodeAndEncode(t *testing.T) {
	s := NewScratch()
	for _, v := range loadKnockV2Vectors(t) {
		c := v.client(t)
		if hint := c.KnockV2Hint(s, v.Gateway, v.Port, v.Slot); !bytes.Equal(hint[:], v.Datagram[:10]) {
			t.Fatalf("%s: hint %x", v.Name, hint)
		}
		k, err := ParseKnockV2(v.Datagram)
		if err != nil || k.Hint() != HintV2(v.Datagram[:10]) || !bytes.Equal(k.Nonce(), v.Nonce) {
			t.Fatalf("%s: parse: %v", v.Name, err)
		}
		m, err := k.Open(s, c, v.Gateway, v.Port, v.Slot)
		if v.Refused != "" {
			if refusal, ok := err.(Error); !ok || refusal.Label() != v.Refused || m != (KnockV2Message{}) {
				t.Errorf("%s: opened as %+v, %v; want %s", v.Name, m, err, v.Refused)
			}
			continue
		}
		if err != nil || m != v.message() {
			t.Fatalf("%s: opened as %+v, %v; want %+v", v.Name, m, err, v.message())
		}
		again, err := AppendKnockV2([]byte("before"), c, v.Gateway, v.Port, v.Slot, &m, bytes.NewReader(v.Nonce))
		if err != nil || string(again) != "before"+string(v.Datagram) {
			t.Fatalf("%s: encoded %x, %v", v.Name, again, err)
		}
	}
}
