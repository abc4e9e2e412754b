package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/explain"
	"github.com/knockgw/knockgw/internal/knock"
	"github.com/knockgw/knockgw/internal/verdict"
	"github.com/knockgw/knockgw/packet"
)

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain CAPTURE --config FILE",
		Short: "Explain what the gateway would decide about the packets of a capture",
		Long: "Reads a capture (pcap or pcapng, from tcpdump, Wireshark or knockgw capture; - for\n" +
			"standard input) and simulates a gateway with the configuration that starts at the\n" +
			"first packet, with the clock of the capture. It sends and writes nothing.\n\n" +
			"The capture does not show what came before it: the first copy of a replayed knock is\n" +
			"accepted.",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	output := linesFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeFiles("pcap", "pcapng", "cap"))
	terms := cmd.Flags().String("filter", "",
		"print only packets that match this `expression`, for example 'host 10.1.2.2 and verdict drop'")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter, err := capture.ParseFilter(*terms, verdict.Reasons())
		if err != nil {
			return &usageError{fmt.Errorf("--filter: %w", err)}
		}
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

		printer := printExplained
		if *output == asJSON {
			printer = printExplainedJSON
		}
		var summary explainSummary
		err = explain.Capture(cfg, r, func(e *explain.Packet) error {
			if !filter.Match(&capture.Event{
				Packet: &e.Packet, Length: e.Record.Length, Out: e.Record.Out,
				Verdict: e.Record.Verdict, Reason: e.Record.Reason,
			}) {
				return nil
			}
			summary.count(e)
			return printer(cmd.OutOrStdout(), e)
		})
		summary.skipped = r.Skipped
		summary.print(cmd.ErrOrStderr())
		return err
	}
	return cmd
}

// explainSummary counts packets with a limitation, to be reported at the end.
type explainSummary struct {
	skipped, badChecksum, inconclusive int
}

func (s *explainSummary) count(e *explain.Packet) {
	if e.Protected && e.BadChecksum && !e.Record.Out { // of outgoing packets the device computes it later
		s.badChecksum++
	}
	if e.Inconclusive {
		s.inconclusive++
	}
}

func (s *explainSummary) print(w io.Writer) {
	if s.skipped > 0 {
		fmt.Fprintf(w, "%s not IP\n", packetsWere(s.skipped))
	}
	if s.badChecksum > 0 {
		fmt.Fprintf(w, "%s accepted in spite of a bad checksum, which is normal in captures on the sending host; "+
			"if it was bad on the wire, the gateway dropped the packet\n", packetsWere(s.badChecksum))
	}
	if s.inconclusive > 0 {
		fmt.Fprintf(w, "%s truncated in a relevant part: the verdict is unknown, and so is that of packets that depend on it; "+
			"capture with --snaplen %d (tcpdump -s %[2]d)\n", packetsWere(s.inconclusive), wholeKnock)
	}
}

// wholeKnock is the snaplen that truncates no knock, in bytes: the largest
// knock, and headers.
const wholeKnock = capture.MaxKnock + 128

// packetsWere begins a sentence about n packets.
func packetsWere(n int) string {
	if n == 1 {
		return "1 packet was"
	}
	return fmt.Sprintf("%d packets were", n)
}

// printExplained prints a packet on a line, and a line for each knock and
// deferred SYN that was decided because of it.
func printExplained(w io.Writer, e *explain.Packet) error {
	verdict, reason := e.Record.Verdict, e.Record.Reason
	switch {
	case e.Inconclusive:
		verdict, reason = "-", "truncated: verdict unknown, capture with --snaplen"
	case !e.Protected:
		verdict, reason = "-", "not from or to a protected address"
	case e.Forwarded:
		verdict, reason = "-", "copy of an earlier packet that this host forwarded"
	case e.Description() != "":
		reason += ": " + e.Description()
	}

	_, err := fmt.Fprintf(w, "%5d  %s  %-4s  %s  %s\n",
		e.Number, e.Record.Time.UTC().Format("15:04:05.000000"), verdict, describePacket(&e.Packet, e.Record.Length), reason)
	for _, k := range e.Knocks {
		if err == nil {
			_, err = fmt.Fprintf(w, "       %s\n", describeKnock(&k))
		}
	}
	for _, p := range e.Deferred {
		if err == nil {
			_, err = fmt.Fprintf(w, "       deferred SYN %s: %s, %s\n", p.Tuple, p.Verdict.Action, p.Verdict.Reason.Description())
		}
	}
	return err
}

// describeKnock describes the result of a knock.
func describeKnock(k *knock.Event) string {
	client := "an unknown client"
	if k.Client != "" {
		client = fmt.Sprintf("%q for %s by %s", k.Client, k.Service, k.Method)
	}
	text := fmt.Sprintf("knock of %s: %s, %s", client, k.Result, k.Result.Description())
	if k.Result == knock.Stale {
		text += " (" + describeSkew(k.Skew) + ")"
	}
	return text
}

// describePacket describes the headers of a packet.
func describePacket(p *packet.Packet, length int) string {
	if p.Version == 0 {
		return fmt.Sprintf("%d bytes", length)
	}
	return fmt.Sprintf("%s %s, %d bytes", p.Tuple, p.Transport(), length)
}

// The JSON output.
type (
	explainedKnock struct {
		Client          string  `json:"client,omitempty"`
		Service         string  `json:"service,omitempty"`
		Method          string  `json:"method,omitempty"`
		Result          string  `json:"result"`
		ClockDifference float64 `json:"clock_difference_seconds,omitempty"` // positive: the client's clock is ahead
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

// printExplainedJSON prints a packet as a JSON object on a line.
func printExplainedJSON(w io.Writer, e *explain.Packet) error {
	p := explainedPacket{
		Number: e.Number, Time: e.Record.Time, Protocol: e.Packet.Transport(), Length: e.Record.Length,
		Source: e.Packet.Tuple.Source().String(), Destination: e.Packet.Tuple.Destination().String(),
		Out: e.Record.Out, Verdict: e.Record.Verdict, Reason: e.Record.Reason,
		BadChecksum: e.BadChecksum, Truncated: e.Truncated, Forwarded: e.Forwarded,
		Knocks: []explainedKnock{},
	}
	for _, k := range e.Knocks {
		p.Knocks = append(p.Knocks, explainedKnock{
			Client: k.Client, Service: k.Service, Method: k.Method, Result: k.Result.String(),
			ClockDifference: k.Skew.Round(time.Millisecond).Seconds(),
		})
	}
	return json.NewEncoder(w).Encode(p)
}
