package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestParseSecretFormats(t *testing.T) {
	plain := []byte("0123456789abcdef")
	for name, text := range map[string]string{
		"plain text":            "0123456789abcdef",
		"hexadecimal":           "hex:30313233343536373839616263646566",
		"base64":                "base64:MDEyMzQ1Njc4OWFiY2RlZg==",
		"base64 without its =s": "base64:MDEyMzQ1Njc4OWFiY2RlZg",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSecret(text)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("ParseSecret: %x, %v", []byte(got), err)
			}
		})
	}
	url, err := ParseSecret("base64:--__--__--__--__--__--__")
	if std, _ := ParseSecret("base64:++//++//++//++//++//++//"); err != nil || !bytes.Equal(url, std) {
		t.Errorf("the alphabets of base64 differ: %x, %x, %v", []byte(url), []byte(std), err)
	}
}

func TestParseSecretErrorOmitsSecret(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"too short":         {"hunter2", "7 bytes"},
		"empty":             {"", "0 bytes"},
		"not hexadecimal":   {"hex:hunter2hunter2hunter2hunter2hunt", "two digits"},
		"not base64":        {"base64:hunter2!hunter2!hunter2!", "knockgw keygen"},
		"short hexadecimal": {"hex:0011", "2 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSecret(c.text)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("the error is %v, and should say %q", err, c.says)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

func TestSecretRevealRoundTrip(t *testing.T) {
	s := Secret("\x00\x01hex:base64:\xff\xfe0123")
	back, err := ParseSecret(s.Reveal())
	if err != nil || !bytes.Equal(s, back) {
		t.Errorf("%q became %q, %v", []byte(s), []byte(back), err)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	s := Secret("0123456789abcdef")
	holder := struct {
		ID     string
		Secret Secret
	}{"alice", s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", s, &s, holder)
	}
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "holder", holder)
	for _, leak := range []string{"0123456789abcdef", "30313233", "48 49", "0x30", "MDEyMz"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in the output:\n%s", leak, out.String())
		}
	}
}
