package control

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// understand reads one value of what the gateway at the socket says. A gateway talks to strangers, and what it says is
// printed to its operator, who may be root: text is made plain here, before anybody can print it.
func (c *Client) understand(from io.Reader, into any) error {
	in := json.NewDecoder(io.LimitReader(from, maxAnswer))
	in.UseNumber()
	var said any
	err := in.Decode(&said)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(harmless(said)); err == nil {
			err = json.Unmarshal(text, into)
		}
	}
	if err != nil {
		return fmt.Errorf("understand the gateway at %s: %w", c.Socket, err)
	}
	return nil
}

// harmless makes every text of a value plain, whatever it is taken for later: an address may have a zone of any text.
func harmless(said any) any {
	switch v := said.(type) {
	case string:
		return termsafe.Text(v)
	case []any:
		for i := range v {
			v[i] = harmless(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = harmless(v[k])
		}
	}
	return said
}
