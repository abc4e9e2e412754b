package protocol

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func referenceMAC(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

func TestMACMatchesStandardLibrary(t *testing.T) {
	s := NewScratch()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), MinSecret, 200).Draw(t, "secret")
		msg := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "msg")
		salt := rapid.SliceOfN(rapid.Byte(), 1, macBlock).Draw(t, "salt")
		states := newMidstates(secret)
		s.msg = append(s.msg[:0], msg...)
		if got, want := s.mac(&states), referenceMAC(secret, msg); !bytes.Equal(got, want) {
			t.Fatalf("mac %x, want %x", got, want)
		}
		want, err := hkdf.Key(sha256.New, secret, salt, string(msg), keySize)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.hkdf(secret, salt); !bytes.Equal(got, want) {
			t.Fatalf("hkdf %x, want %x", got, want)
		}
	})
}

// The vectors have no legacy sequence; this is its paragraph of the
// specification once more.
func TestLegacySYNPart(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	c, err := NewClient("client-001", secret)
	if err != nil {
		t.Fatal(err)
	}
	s := NewScratch()
	const port = 8443
	for slot := range int64(50) {
		for index := range MaxSYNSequence {
			msg := binary.BigEndian.AppendUint16([]byte("knock-proxy/tcp-syn-seq/v1"), uint16(len("client-001")))
			msg = append(msg, "client-001"...)
			msg = binary.BigEndian.AppendUint16(msg, port)
			msg = binary.BigEndian.AppendUint64(msg, uint64(slot))
			msg = binary.BigEndian.AppendUint16(msg, uint16(index))
			tag := referenceMAC(secret, msg)
			fields, dst := c.SYNPartLegacy(s, port, slot, index)
			want := SYNFields{
				Seq:    binary.BigEndian.Uint32(tag[2:6]),
				Window: max(1, binary.BigEndian.Uint16(tag[6:8])),
				TSVal:  binary.BigEndian.Uint32(tag[8:12]),
			}
			if wantPort := 1024 + binary.BigEndian.Uint16(tag[0:2])%64511; fields != want || dst != wantPort {
				t.Fatalf("slot %d index %d: %+v to %d, want %+v to %d", slot, index, fields, dst, want, wantPort)
			}
		}
	}
}

func TestSYNFieldsWindowIsNotZero(t *testing.T) {
	if got := synFields(make([]byte, macSize)).Window; got != 1 {
		t.Errorf("window %d, want 1", got)
	}
}

func TestSlot(t *testing.T) {
	at := time.Unix(1790000000, 999)
	for _, c := range []struct {
		slot time.Duration
		want int64
	}{
		{30 * time.Second, 59666666},
		{1500 * time.Millisecond, 1790000000}, // a window of 1.5 s has one whole second
		{time.Millisecond, 1790000000},
		{0, 1790000000},
	} {
		if got := Slot(at, c.slot); got != c.want {
			t.Errorf("Slot(%v) = %d, want %d", c.slot, got, c.want)
		}
	}
}
