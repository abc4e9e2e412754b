package control

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// decode reads one value of a gateway's response. A gateway processes text from
// unauthorized hosts, and its responses are printed to an operator, who may be
// root: control characters are escaped here, before anything can be printed.
func (c *Client) decode(from io.Reader, into any) error {
	in := json.NewDecoder(io.LimitReader(from, maxResponse))
	in.UseNumber()
	var value any
	err := in.Decode(&value)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(sanitize(value)); err == nil {
			err = json.Unmarshal(text, into)
		}
	}
	if err != nil {
		return fmt.Errorf("decode the response of the gateway at %s: %w", c.Socket, err)
	}
	return nil
}

// sanitize escapes all strings in a value, whatever their meaning: even an
// address can have a zone with any text.
func sanitize(value any) any {
	switch v := value.(type) {
	case string:
		return termsafe.Text(v)
	case []any:
		for i := range v {
			v[i] = sanitize(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = sanitize(v[k])
		}
	}
	return value
}
