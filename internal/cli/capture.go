package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/internal/bytesize"
	"github.com/knockgw/knockgw/internal/control"
	"github.com/knockgw/knockgw/internal/verdict"
)

func captureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture -o FILE",
		Short: "Capture packets with verdicts, for Wireshark",
		Long: "Writes a pcapng file in which each packet has its verdict and reason as a comment,\n" +
			"until it is interrupted or --limit is reached. Packets that arrive faster than they\n" +
			"can be written are dropped from the capture and counted. In the meantime the kernel\n" +
			"filter passes all packets to the gateway, which drops them itself.\n\n" +
			"A filter consists of terms joined by and: host, net, port (for one end, with src or\n" +
			"dst before it), proto (tcp, udp, icmp, icmp6), in, out, verdict (pass, hold, drop),\n" +
			"reason. not negates a term.\n\n" +
			"The file contains the contents of packets; protect it. Datagrams that may be knocks\n" +
			"are captured completely, whatever --snaplen says, for knockgw explain; they cannot be\n" +
			"decrypted without the secret.\n\n" +
			"Since -o is the file here, --summary takes the place of the -o of other commands:\n" +
			"--summary json prints the totals as an object on standard output, or on standard\n" +
			"error if the capture itself goes to standard output.",
		Example: "  knockgw capture -o - --filter 'verdict drop and not port 22' | wireshark -k -i -",
		Args:    exactArgs(0),
	}
	gateway := addGatewayFlags(cmd)
	var c captureRun
	flags := cmd.Flags()
	flags.StringVarP(&c.File, "output", "o", "", "new `file`, with mode 0600; - for standard output (required)")
	flags.StringVar(&c.filter, "filter", "",
		"capture only packets that match this `expression`, for example 'host 10.1.2.2 and verdict drop'")
	flags.IntVar(&c.snaplen, "snaplen", capture.DefaultSnaplen, "`bytes` captured of each packet, except of possible knocks")
	flags.Int64Var(&c.limit, "limit", captureLimit, "maximum size of the file in `MiB`; 0 for none")
	completeFlag(cmd, "output", completeFiles("pcapng"))
	summary := enum{"`format` of the totals", formats()}.flag(cmd, "summary", "")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.validate(cmd.OutOrStdout()); err != nil {
			return err
		}
		client, err := gateway.client()
		if err != nil {
			return err
		}
		if err := c.run(cmd, client); err != nil {
			return err
		}
		return c.printSummary(cmd, *summary)
	}
	return cmd
}

const (
	// captureLimit is the default --limit, in MiB: a forgotten capture must not
	// fill the disk.
	captureLimit = 1024
	// maxCaptureLimit is the largest --limit, in MiB: an exbibyte.
	maxCaptureLimit int64 = 1 << 40
)

// captureRun is a capture and its totals.
type captureRun struct {
	File    string `json:"file"` // - for standard output
	Packets int64  `json:"packets"`
	Dropped uint64 `json:"dropped_packets"` // arrived faster than they could be written
	Bytes   int64  `json:"size_bytes"`
	Full    bool   `json:"limit_reached"`

	filter  string
	snaplen int
	limit   int64 // MiB
}

// validate checks the flags.
func (c *captureRun) validate(out io.Writer) error {
	if _, err := capture.ParseFilter(c.filter, verdict.Reasons()); err != nil {
		return &usageError{fmt.Errorf("--filter: %w", err)}
	}
	switch {
	case c.limit < 0 || c.limit > maxCaptureLimit:
		return &usageError{fmt.Errorf("--limit %d: choose 1 to %d MiB, or 0 for none", c.limit, maxCaptureLimit)}
	case c.snaplen < 1 || c.snaplen > capture.MaxSnaplen:
		return &usageError{fmt.Errorf("--snaplen %d: choose 1 to %d bytes", c.snaplen, capture.MaxSnaplen)}
	case c.File == "":
		return &usageError{errors.New("-o: name the file to write, or - for standard output")}
	case c.File == "-" && isTerminal(out):
		return &usageError{errors.New("-o -: standard output is a terminal; pipe it to a program, or name a file")}
	case c.File == asJSON || c.File == asText:
		return &usageError{fmt.Errorf("-o %s: -o is the file to write here (./%[1]s for a file of that name); "+
			"use --summary %[1]s for the format of the totals", c.File)}
	}
	return nil
}

// run captures until the command is interrupted, the gateway stops, or the
// limit is reached.
func (c *captureRun) run(cmd *cobra.Command, gateway *control.Client) error {
	out := cmd.OutOrStdout()
	if c.File != "-" {
		f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("-o %s: the file exists; name a new one, or delete it first", c.File)
		}
		if err != nil {
			return fmt.Errorf("-o: %w", err)
		}
		out = f
	}

	started := false
	to := &capture.BlockWriter{W: out, Limit: c.limit << 20}
	err := gateway.Capture(cmd.Context(), control.CaptureOptions{Filter: c.filter, Snaplen: c.snaplen}, to, func() {
		started = true
		fmt.Fprintln(cmd.ErrOrStderr(), "capturing; interrupt to stop")
	})
	c.Packets, c.Dropped, c.Bytes, c.Full = to.Packets, to.Dropped, to.Bytes, errors.Is(err, capture.ErrLimit)
	if c.Full || cmd.Context().Err() != nil {
		err = nil // a regular end
	}

	if f, ok := out.(*os.File); ok && c.File != "-" {
		if err != nil { // a full disk may have accepted a part of a block
			err = errors.Join(err, f.Truncate(to.Bytes))
		}
		err = errors.Join(err, f.Close())
		if !started {
			err = errors.Join(err, os.Remove(c.File))
		}
	}
	return err
}

// printSummary prints the totals.
func (c *captureRun) printSummary(cmd *cobra.Command, format string) error {
	if format == asJSON {
		out := cmd.OutOrStdout()
		if c.File == "-" {
			out = cmd.ErrOrStderr()
		}
		return json.NewEncoder(out).Encode(c)
	}

	text := fmt.Sprintf("%d packets, %s", c.Packets, bytesize.Text(float64(c.Bytes)))
	if c.Dropped > 0 {
		text += fmt.Sprintf("; %d more were dropped because they arrived too fast", c.Dropped)
	}
	if c.Full {
		text += fmt.Sprintf("; stopped at %d MiB (--limit)", c.limit)
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), text)
	return err
}
