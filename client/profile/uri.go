package profile

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// Scheme begins every URI of a profile.
	Scheme = "knockgw://"
	// prefixURI says the version too.
	prefixURI = Scheme + "1/"
	// maxURI is in bytes: what maxFile takes if nothing of it can be made smaller, in base64.
	maxURI = maxFile*4/3 + 1<<10
)

// URI is the profile in one line, the secret included: knockgw://1/ and its JSON, raw DEFLATE, in base64url
// without padding. Whoever sees it can pass for the client: it is for a QR code and for a paste into
// knockgw import, and for no command line, chat or mail. ParseURI makes of it the same profile.
func (p *Profile) URI() (string, error) {
	full, err := p.complete()
	if err != nil {
		return "", err
	}
	text, err := full.compact()
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	z, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return "", fmt.Errorf("profile %s: %w", p.Name, err)
	}
	_, err = z.Write(text)
	if err = errors.Join(err, z.Close()); err != nil {
		return "", fmt.Errorf("profile %s: %w", p.Name, err)
	}
	return prefixURI + base64.RawURLEncoding.EncodeToString(b.Bytes()), nil
}

// The ways in which a URI is none. They do not wrap what the decoders say: nothing of the URI is repeated.
var (
	errScheme    = fmt.Errorf("not the URI of a profile: it does not begin with %s", Scheme)
	errVersion   = errors.New("the URI of a profile in a version that this program does not know; a newer knockgw does")
	errTruncated = errors.New("the URI of a profile is damaged or cut off; copy all of it, on one line")
	errTooLarge  = fmt.Errorf("the URI of a profile has more than %d bytes in it; is it the right one?", maxFile)
)

// ParseURI reads what URI wrote, of at most 64 KiB once unpacked. White space around it is ignored. Its
// errors have nothing of the URI in them.
func ParseURI(uri string) (*Profile, error) {
	uri = strings.TrimSpace(uri)
	if !strings.HasPrefix(uri, Scheme) {
		return nil, errScheme
	}
	packed, ok := strings.CutPrefix(uri, prefixURI)
	switch {
	case !ok:
		return nil, errVersion
	case len(packed) > maxURI:
		return nil, errTooLarge
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(packed)
	if err != nil {
		return nil, errTruncated
	}
	r := bytes.NewReader(data) // a ByteReader: flate reads no further than its own end
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(r), maxFile+1))
	switch {
	case err != nil:
		return nil, errTruncated
	case len(text) > maxFile:
		return nil, errTooLarge
	case r.Len() > 0:
		return nil, errTruncated
	}
	return parseJSON(text)
}

// parseJSON reads a profile out of a URI. JSON is YAML, so that what is refused in a file is refused here,
// for the same reason; but nothing else of YAML belongs in a URI.
func parseJSON(text []byte) (*Profile, error) {
	if !json.Valid(text) {
		return nil, errTruncated
	}
	return Parse("the URI", text)
}
