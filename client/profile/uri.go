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
	// Scheme is the start of every URI of a profile.
	Scheme = "knockgw://"
	// prefixURI includes the version.
	prefixURI = Scheme + "1/"
	// maxURI is in bytes: the size of maxFile in base64, if compression gains
	// nothing.
	maxURI = maxFile*4/3 + 1<<10
)

// URI returns the profile on one line, including the secret: knockgw://1/
// followed by its JSON, compressed with raw DEFLATE, in base64url without
// padding. Anyone who sees it can impersonate the client: use it for a QR code
// or to paste into knockgw import, not on a command line, in a chat or in mail.
// ParseURI returns the same profile for it.
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

// The errors of ParseURI. They do not wrap the errors of the decoders, which
// could contain parts of the URI.
var (
	errScheme    = fmt.Errorf("not the URI of a profile: it does not start with %s", Scheme)
	errVersion   = errors.New("the URI of a profile has a version that this program does not support; use a newer knockgw")
	errTruncated = errors.New("the URI of a profile is damaged or incomplete; copy all of it, on one line")
	errTooLarge  = fmt.Errorf("the URI of a profile contains more than %d bytes; is it the right one?", maxFile)
)

// ParseURI parses the result of URI, of at most 64 KiB after decompression.
// White space around it is ignored. Its errors contain nothing of the URI.
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
	r := bytes.NewReader(data) // an io.ByteReader, so that flate does not read past its end
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

// parseJSON parses the profile in a URI. Since JSON is YAML, the same values
// are rejected as in a file, for the same reasons. Other YAML is not allowed in
// a URI.
func parseJSON(text []byte) (*Profile, error) {
	if !json.Valid(text) {
		return nil, errTruncated
	}
	return Parse("the URI", text)
}
