package secretfile

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/knockgw/knockgw/protocol"
)

const plain = "0123456789abcdef"

func TestParseLineEnding(t *testing.T) {
	for _, text := range []string{plain, "hex:30313233343536373839616263646566", "base64:MDEyMzQ1Njc4OWFiY2RlZg==", "correct horse battery"} {
		want, err := protocol.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{"", "\n", "\r\n"} {
			if got, err := Parse([]byte(text + end)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%q with %q: %x, %v", text, end, []byte(got), err)
			}
		}
	}
}

// utf16le is text as PowerShell's > writes it.
func utf16le(text string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

func TestParseAmbiguous(t *testing.T) {
	for says, texts := range map[string][]string{
		"byte order mark":     {"\uFEFF" + plain, "\uFEFFhex:30313233343536373839616263646566\n"},
		"UTF-16":              {utf16le(plain + "\r\n"), utf16le(plain)[2:], "\xfe\xff\x000\x001\x002\x003\x004\x005\x006\x007\x008\x009"},
		"quotation mark":      {`"` + plain + `"`, "'" + plain + "'\n", "“" + plain + "”", "`" + plain + "`", `"` + plain, plain + `"`},
		"lines":               {"# alice\n" + plain + "\n", plain + "\n" + plain + "\n", "\n" + plain, plain + "\r\n# old\r\n"},
		"line end":            {plain + "\n\n", plain + "\r\n\r\n", plain + "\r"},
		"comment":             {"#" + plain, plain + " # alice", "hex:30313233343536373839616263646566 # alice"},
		"white space":         {" " + plain, plain + " ", plain + "\t\n", "\u00a0" + plain, plain + " \r\n"},
		"invisible character": {"01234567\u200b89abcdef", "0123\t456789abcdef", "01234567\r89abcdef", "0123456789\x1babcdef"},
		"capital letters":     {"HEX:30313233343536373839616263646566", "Base64:MDEyMzQ1Njc4OWFiY2RlZg=="},
		"something stands":    {"secret: hex:30313233343536373839616263646566", "KEY=base64:MDEyMzQ1Njc4OWFiY2RlZg=="},
		"neither text":        {"\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xcb\xcc\xcd\xce\xcf"},
		"has 0 bytes":         {"", "\n", "\r\n"},
	} {
		for _, text := range texts {
			_, err := Parse([]byte(text))
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%q: the error is %v, and should say %q", text, err, says)
			} else if strings.Contains(err.Error(), "abcdef") {
				t.Errorf("%q: the secret is in the error: %v", text, err)
			}
		}
	}
}

func TestReadErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alice.key")
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "knockgw keygen") {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("\"hex:30313233343536373839616263646566\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "alice.key: a quotation mark stands before") {
		t.Errorf("the error is %v", err)
	}
}

// FuzzSecretFile: a file either means the secret that its one line spells, or is
// refused; and whatever editors and shells put around it is never taken for a
// part of it.
func FuzzSecretFile(f *testing.F) {
	for _, seed := range []string{plain, "hex:30313233343536373839616263646566\n", "base64:MDEyMzQ1Njc4OWFiY2RlZg==\r\n",
		"\uFEFF" + plain, `"` + plain + `"`, "# x\n" + plain, utf16le(plain)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		secret, err := Parse(data)
		if err != nil {
			return
		}
		line := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		if strings.ContainsAny(line, "\r\n\x00\uFEFF") || strings.TrimSpace(line) != line {
			t.Fatalf("%q was taken", data)
		}
		if again, err := Parse([]byte(secret.Reveal() + "\n")); err != nil || !bytes.Equal(again, secret) {
			t.Fatalf("%q means %x, and written down %x, %v", data, []byte(secret), []byte(again), err)
		}
		for _, changed := range []string{
			"\uFEFF" + line, `"` + line + `"`, "'" + line + "'", " " + line, line + " ", line + "\n\n", "# x\n" + line,
			line + "\n# x\n", line + " # x", "secret: " + line, utf16le(line),
		} {
			got, err := Parse([]byte(changed))
			if err == nil && !bytes.Equal(got, secret) && !strings.HasPrefix(changed, "secret: ") {
				t.Fatalf("%q means another secret than %q", changed, line)
			}
		}
	})
}
