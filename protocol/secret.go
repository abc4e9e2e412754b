package protocol

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Secret is a client's secret. Printing, logging or encoding it yields a
// placeholder. Convert it to []byte to use it; Reveal returns its text.
type Secret []byte

const redacted = "[secret]"

// String is a placeholder.
func (Secret) String() string { return redacted }

// GoString is a placeholder.
func (Secret) GoString() string { return redacted }

// Format writes the placeholder for every verb: %x calls no Stringer.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText encodes the placeholder, for JSON, YAML and XML alike.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON encodes the placeholder.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalYAML encodes the placeholder.
func (Secret) MarshalYAML() (any, error) { return redacted, nil }

// LogValue is a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Prefixes of encoded secrets; other secrets are plain text.
const (
	hexPrefix    = "hex:"
	base64Prefix = "base64:"
)

// Reveal returns the secret as hex:..., which ParseSecret reads, for a file
// that only its owner can read.
func (s Secret) Reveal() string { return hexPrefix + hex.EncodeToString(s) }

var (
	errSecretHex    = errors.New("what follows hex: is not hexadecimal; write two digits 0-9, a-f for each byte")
	errSecretBase64 = errors.New("what follows base64: is not base64; make one with knockgw keygen")
)

// ParseSecret decodes a secret: hex:..., base64:... or plain text, of at least
// MinSecret bytes. It refuses plain text to which an editor, a shell or copying
// has probably added something: the two sides would have different secrets. Its
// errors contain nothing of the secret and therefore do not wrap those of the
// decoders.
func ParseSecret(text string) (Secret, error) {
	if err := plainFault(text); err != nil {
		return nil, err
	}

	secret := []byte(text)
	if rest, ok := strings.CutPrefix(text, hexPrefix); ok {
		var err error
		if secret, err = hex.DecodeString(rest); err != nil {
			return nil, errSecretHex
		}
	} else if rest, ok := strings.CutPrefix(text, base64Prefix); ok {
		var err error
		if secret, err = decodeBase64(rest); err != nil {
			return nil, errSecretBase64
		}
	}

	if len(secret) < MinSecret {
		return nil, fmt.Errorf("the secret has %d bytes and needs at least %d; make one with knockgw keygen",
			len(secret), MinSecret)
	}
	return secret, nil
}

// decodeBase64 accepts either alphabet, padded or not, since many tools make
// keys.
func decodeBase64(text string) ([]byte, error) {
	text = strings.TrimRight(text, "=")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	return base64.RawStdEncoding.DecodeString(text)
}
