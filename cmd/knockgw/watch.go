package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/control"
)

// What the operator watches of the running gateway.

func traceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace --from ADDRESS",
		Short: "Show live what becomes of each packet of a source, and why",
		Long: "Shows each packet from a source and to it with the verdict at each step: the gate, the knock, the\n" +
			"authentication, the end of the flow. It goes on until it is interrupted. While it runs, the kernel's\n" +
			"filter passes the source's packets to the gateway, which refuses them itself.",
		Args: exact(0),
	}
	path := configFlag(cmd)
	from := cmd.Flags().String("from", "", "the source: an `address` or network (required)")
	service := cmd.Flags().String("service", "", "only what concerns this service, and datagrams")
	output := cmd.Flags().StringP("output", "o", "text", "text or json (one object a line)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *from == "" {
			return &usageError{errors.New("say whose packets: --from ADDRESS")}
		}
		source, err := control.ParseSource(*from)
		if err != nil {
			return &usageError{fmt.Errorf("--from: %w", err)}
		}
		show := traceText
		switch *output {
		case "text":
		case "json":
			show = func(w io.Writer, e *control.TraceEvent) error { return json.NewEncoder(w).Encode(e) }
		default:
			return &usageError{fmt.Errorf("-o %s: choose text or json", *output)}
		}
		c, err := controlOf(*path)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		err = c.Trace(cmd.Context(), control.TraceOptions{From: source, Service: *service}, func(e *control.TraceEvent) error {
			return show(out, e)
		})
		if cmd.Context().Err() != nil {
			return nil // interrupted, as it was meant to be
		}
		return err
	}
	return cmd
}

// traceText writes an event as a line.
func traceText(w io.Writer, e *control.TraceEvent) error {
	var b strings.Builder
	if e.Missed > 0 {
		fmt.Fprintf(&b, "... %d events were left out\n", e.Missed)
	}
	fmt.Fprintf(&b, "%s  %-14s %-5s ", e.Time.Local().Format("15:04:05.000000"), e.Step, e.Verdict)
	if e.Reason != "" {
		fmt.Fprintf(&b, " %s", e.Reason)
	}
	fmt.Fprintf(&b, "  %s", e.Source)
	if e.Target != "" {
		fmt.Fprintf(&b, " > %s", e.Target)
	}
	for _, part := range []struct{ before, text string }{{" ", e.What}, {" client ", printable(e.Client)}, {" service ", e.Service}, {": ", e.Words}} {
		if part.text != "" {
			b.WriteString(part.before + part.text)
		}
	}
	if e.ClockDifference != 0 && e.Verdict == staleResult {
		b.WriteString("; " + skewText(time.Duration(e.ClockDifference*float64(time.Second))))
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}

func captureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture -o FILE",
		Short: "Record packets with what was decided about them, for Wireshark",
		Long: "Writes pcapng, in which each packet has its verdict and the reason as a comment, until it is\n" +
			"interrupted or --limit is reached. What comes faster than it can be written is left out and counted.\n" +
			"While it runs, the kernel's filter passes everything to the gateway, which refuses it itself.\n\n" +
			"A filter joins terms by and: host, net, src, dst, port, proto (tcp, udp, icmp, icmp6), in, out,\n" +
			"verdict (pass, hold, drop), reason; not before a term turns it round. The file has what the packets\n" +
			"have: be careful with it. Datagrams that could be knocks are kept whole whatever --snaplen says, for\n" +
			"knockgw explain; to whoever lacks the secret they are noise.",
		Example: "  knockgw capture -o - --filter 'verdict drop and not port 22' | wireshark -k -i -",
		Args:    exact(0),
	}
	path := configFlag(cmd)
	file := cmd.Flags().StringP("output", "o", "", "the new `file`, with mode 0600; - for standard output (required)")
	terms := cmd.Flags().String("filter", "", "only these packets, as in 'host 10.1.2.2 and verdict drop'")
	snaplen := cmd.Flags().Int("snaplen", capture.DefaultSnaplen, "`bytes` kept of each packet; a datagram that could be a knock is kept whole")
	limit := cmd.Flags().Int64("limit", captureLimit, "end when the file has this many MiB; 0 for never")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := capture.ParseFilter(*terms); err != nil {
			return &usageError{fmt.Errorf("--filter: %w", err)}
		}
		if *limit < 0 || *limit > maxCaptureLimit {
			return &usageError{fmt.Errorf("--limit %d: choose 1 to %d MiB, or 0 for none", *limit, maxCaptureLimit)}
		}
		if *snaplen < 1 || *snaplen > capture.MaxSnaplen {
			return &usageError{fmt.Errorf("--snaplen %d: choose 1 to %d bytes", *snaplen, capture.MaxSnaplen)}
		}
		if *file == "" {
			return &usageError{errors.New("-o: name the file to write, or - for standard output")}
		}
		c, err := controlOf(*path)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *file != "-" {
			f, err := os.OpenFile(*file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("-o %s: there is a file already; name a new one, or delete it first", *file)
			}
			if err != nil {
				return fmt.Errorf("-o: %w", err)
			}
			out = f
		}
		begun := false
		to := &blockWriter{w: out, left: *limit << 20, unlimited: *limit == 0}
		err = c.Capture(cmd.Context(), control.CaptureOptions{Filter: *terms, Snaplen: *snaplen}, to, func() {
			begun = true
			fmt.Fprintln(cmd.ErrOrStderr(), "capturing; interrupt to end")
		})
		if errors.Is(err, errLimit) {
			fmt.Fprintf(cmd.ErrOrStderr(), "ended at %d MiB (--limit)\n", *limit)
			err = nil
		}
		if cmd.Context().Err() != nil {
			err = nil // interrupted, as it was meant to be
		}
		if f, ok := out.(*os.File); ok && *file != "-" {
			if err != nil { // a full disk takes a part of a block
				err = errors.Join(err, f.Truncate(to.whole))
			}
			err = errors.Join(err, f.Close())
			if !begun {
				err = errors.Join(err, os.Remove(*file))
			}
		}
		return err
	}
	return cmd
}

// captureLimit is how large a capture grows unless told otherwise, in MiB: a disk is
// not to be filled by a capture that somebody forgot.
const captureLimit = 1024

// errLimit says that a capture is as large as it may be.
var errLimit = errors.New("the limit is reached")

// maxCaptureLimit is the largest --limit, in MiB: an exbibyte.
const maxCaptureLimit = 1 << 40

// blockWriter writes whole blocks of pcapng alone, up to a number of bytes, so that
// what it has written can be read however it ended.
type blockWriter struct {
	w         io.Writer
	left      int64
	unlimited bool
	rest      []byte // of a block that is not complete
	whole     int64  // bytes of the blocks that were written
}

const (
	blockHeader = 8       // type and length, 4 bytes each
	maxBlock    = 1 << 20 // bytes of one, more than any packet takes
)

// errBlock says that what came is no pcapng.
var errBlock = errors.New("what the gateway sent is no capture")

// Write implements io.Writer.
func (b *blockWriter) Write(p []byte) (int, error) {
	b.rest = append(b.rest, p...)
	for len(b.rest) >= blockHeader {
		n := int(binary.LittleEndian.Uint32(b.rest[4:]))
		if n < blockHeader || n > maxBlock {
			return 0, errBlock
		}
		if len(b.rest) < n {
			break
		}
		if !b.unlimited && int64(n) > b.left {
			return 0, errLimit
		}
		b.left -= int64(n)
		if _, err := b.w.Write(b.rest[:n]); err != nil {
			return 0, err
		}
		b.whole += int64(n)
		b.rest = b.rest[n:]
	}
	return len(p), nil
}
