package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/admission"
	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/explain"
	"github.com/knockgw/knockgw/internal/verdict"
	"github.com/knockgw/knockgw/packet"
)

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain CAPTURE --config FILE",
		Short: "Say what the gateway would have decided about each packet of a capture",
		Long: "Reads a capture (pcap or pcapng, from tcpdump, Wireshark or knockgw capture) and judges its packets\n" +
			"by the clock of the capture, as a gateway with the configuration would have, had it begun with the\n" +
			"first of them. Nothing is sent or written. A - reads standard input.\n\n" +
			"The capture says nothing about what came before it: of a replay the first one seen is good.",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	output := linesFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeFiles("pcap", "pcapng", "cap"))
	terms := cmd.Flags().String("filter", "", "only these packets, as in 'host 10.1.2.2 and verdict drop'")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter, err := capture.ParseFilter(*terms, verdict.Reasons())
		if err != nil {
			return &usageError{fmt.Errorf("--filter: %w", err)}
		}
		show := explainText
		if *output == asJSON {
			show = explainJSON
		}
		var told explainSummary
		cfg, err := config.Load(*path)
		if err != nil {
			return err
		}
		in := cmd.InOrStdin()
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // only read
			in = f
		}
		r, err := capture.NewReader(in)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		err = explain.Capture(cfg, r, func(e *explain.Packet) error {
			wanted := filter.Match(&capture.Event{
				Packet: &e.Packet, Length: e.Record.Length, Out: e.Record.Out,
				Verdict: e.Record.Verdict, Reason: e.Record.Reason,
			})
			if !wanted {
				return nil
			}
			told.count(e)
			return show(cmd.OutOrStdout(), e)
		})
		told.skipped = r.Skipped
		told.report(cmd.ErrOrStderr())
		return err
	}
	return cmd
}

// explainSummary is what is said about all packets that were shown, once at the end.
type explainSummary struct {
	skipped, badChecksum, cut int
}

func (t *explainSummary) count(e *explain.Packet) {
	if e.Protected && e.BadChecksum && !e.Record.Out { // what leaves has its checksum filled in later
		t.badChecksum++
	}
	if e.Inconclusive {
		t.cut++
	}
}

func (t *explainSummary) report(w io.Writer) {
	if t.skipped > 0 {
		fmt.Fprintf(w, "%s not IP\n", packetsWere(t.skipped))
	}
	if t.badChecksum > 0 {
		fmt.Fprintf(w, "%s taken for good in spite of a bad checksum, as in captures of the sending host; "+
			"if it was bad on the wire, the gateway has dropped it\n", packetsWere(t.badChecksum))
	}
	if t.cut > 0 {
		fmt.Fprintf(w, "%s cut off where it matters: they and what they would have opened cannot be judged; "+
			"capture with --snaplen %d (tcpdump -s %[2]d)\n", packetsWere(t.cut), wholeKnock)
	}
}

// wholeKnock is the snaplen with which nothing of a knock is lost, in bytes: the largest
// one, and headers.
const wholeKnock = capture.MaxKnock + 128

// packetsWere begins a sentence about packets.
func packetsWere(n int) string {
	if n == 1 {
		return "1 packet was"
	}
	return fmt.Sprintf("%d packets were", n)
}

// explainText writes a packet as a line, and a line for each knock and each SYN
// that was decided because of it.
func explainText(w io.Writer, e *explain.Packet) error {
	verdict, words := e.Record.Verdict, e.Record.Reason
	if !e.Protected {
		verdict, words = "-", "not from or to a protected address"
	} else if e.Forwarded {
		verdict, words = "-", "one of those before, as this host forwards it"
	} else if r := e.Description(); r != "" {
		words += ": " + r
	}
	if e.Inconclusive {
		verdict, words = "-", "cut off: cannot be judged, capture with --snaplen"
	}
	_, err := fmt.Fprintf(w, "%5d  %s  %-4s  %s  %s\n",
		e.Number, e.Record.Time.UTC().Format("15:04:05.000000"), verdict, packetText(&e.Packet, e.Record.Length), words)
	for _, k := range e.Knocks {
		if err == nil {
			_, err = fmt.Fprintf(w, "       %s\n", knockText(&k))
		}
	}
	for _, p := range e.Deferred {
		if err == nil {
			_, err = fmt.Fprintf(w, "       the SYN %s, which had waited: %s, %s\n", p.Tuple, p.Verdict.Action, p.Verdict.Reason.Words())
		}
	}
	return err
}

// knockText tells of a decided knock.
func knockText(k *admission.KnockEvent) string {
	who := "nobody known"
	if k.Client != "" {
		who = fmt.Sprintf("%q for %s by %s", k.Client, k.Service, k.Method)
	}
	text := fmt.Sprintf("knock of %s: %s, %s", who, k.Result, k.Result.Words())
	if k.Result == admission.KnockStale {
		text += " (" + describeSkew(k.Skew) + ")"
	}
	return text
}

// packetText is a packet in a few words.
func packetText(p *packet.Packet, length int) string {
	if p.Version == 0 {
		return fmt.Sprintf("%d bytes", length)
	}
	return fmt.Sprintf("%s %s, %d bytes", p.Tuple, p.Transport(), length)
}

// explainedKnock and explainedPacket are what -o json writes.
type (
	explainedKnock struct {
		Client          string  `json:"client,omitempty"`
		Service         string  `json:"service,omitempty"`
		Method          string  `json:"method,omitempty"`
		Result          string  `json:"result"`
		ClockDifference float64 `json:"clock_difference_seconds,omitempty"` // positive: the client's is ahead
	}
	explainedPacket struct {
		Number      int              `json:"number"`
		Time        time.Time        `json:"time"`
		Source      string           `json:"source"`
		Destination string           `json:"destination"`
		Protocol    string           `json:"protocol"`
		Length      int              `json:"length_bytes"` // on the wire
		Out         bool             `json:"out,omitempty"`
		Verdict     string           `json:"verdict,omitempty"`
		Reason      string           `json:"reason,omitempty"`
		BadChecksum bool             `json:"bad_checksum,omitempty"`
		Truncated   bool             `json:"truncated,omitempty"`
		Forwarded   bool             `json:"forwarded,omitempty"`
		Knocks      []explainedKnock `json:"knocks"`
	}
)

// explainJSON writes a packet as an object.
func explainJSON(w io.Writer, e *explain.Packet) error {
	p := explainedPacket{
		Number: e.Number, Time: e.Record.Time, Protocol: e.Packet.Transport(), Length: e.Record.Length,
		Source: e.Packet.Tuple.Source().String(), Destination: e.Packet.Tuple.Destination().String(),
		Out: e.Record.Out, Verdict: e.Record.Verdict, Reason: e.Record.Reason, BadChecksum: e.BadChecksum, Truncated: e.Truncated, Forwarded: e.Forwarded,
		Knocks: []explainedKnock{},
	}
	for _, k := range e.Knocks {
		p.Knocks = append(p.Knocks, explainedKnock{k.Client, k.Service, k.Method, k.Result.String(), k.Skew.Round(time.Millisecond).Seconds()})
	}
	return json.NewEncoder(w).Encode(p)
}
