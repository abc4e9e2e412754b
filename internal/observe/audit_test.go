package observe

import (
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/packet"
	"github.com/knockgw/knockgw/protocol"
)

func TestAuditDescribesDeniedAuthentication(t *testing.T) {
	client, err := protocol.NewClient("bob", []byte(strings.Repeat("b", 32)))
	if err != nil {
		t.Fatal(err)
	}
	for result, want := range map[auth.Result]string{
		auth.ResultStale:  "a clock is wrong",
		auth.ResultReplay: "seen before",
	} {
		got := deniedAuth(&auth.Error{Client: client, Result: result, ClockOffset: -77 * time.Second}, "ssh", packet.Tuple{})
		if !strings.HasPrefix(got.Reason, "authentication: ") || !strings.Contains(got.Reason, want) || (got.ClockDifference == -77) != (result == auth.ResultStale) {
			t.Errorf("%+v", got)
		}
	}
}
