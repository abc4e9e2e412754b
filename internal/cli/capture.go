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
		Short: "Record packets with what was decided about them, for Wireshark",
		Long: "Writes pcapng, in which each packet has its verdict and the reason as a comment, until it is\n" +
			"interrupted or --limit is reached. What comes faster than it can be written is left out and counted.\n" +
			"While it runs, the kernel's filter passes everything to the gateway, which refuses it itself.\n\n" +
			"A filter joins terms by and: host, net, port (src or dst before it is for that end alone), proto (tcp,\n" +
			"udp, icmp, icmp6), in, out, verdict (pass, hold, drop), reason; not before a term turns it round. The\n" +
			"file has what the packets have: be careful with it. Datagrams that could be knocks are kept whole\n" +
			"whatever --snaplen says, for knockgw explain; to whoever lacks the secret they are noise.\n\n" +
			"The -o of other commands is --summary here: --summary json prints how much was captured as an object\n" +
			"on standard output, or on standard error where the capture itself goes to standard output.",
		Example: "  knockgw capture -o - --filter 'verdict drop and not port 22' | wireshark -k -i -",
		Args:    exact(0),
	}
	at := placeFlags(cmd)
	var c capturing
	flags := cmd.Flags()
	flags.StringVarP(&c.File, "output", "o", "", "the new `file`, with mode 0600; - for standard output (required)")
	completeFlag(cmd, "output", completeFiles("pcapng"))
	flags.StringVar(&c.filter, "filter", "", "only these packets, as in 'host 10.1.2.2 and verdict drop'")
	flags.IntVar(&c.snaplen, "snaplen", capture.DefaultSnaplen, "`bytes` kept of each packet; a datagram that could be a knock is kept whole")
	flags.Int64Var(&c.limit, "limit", captureLimit, "end when the file has this many `MiB`; 0 for never")
	summary := choice{"how to say at the end what was captured", formats()}.flag(cmd, "summary", "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.check(cmd.OutOrStdout()); err != nil {
			return err
		}
		gateway, err := at.gateway()
		if err != nil {
			return err
		}
		if err := c.run(cmd, gateway); err != nil {
			return err
		}
		return c.sum(cmd, *summary)
	}
	return cmd
}

// capturing is a capture as it is asked for, and what has come of it.
type capturing struct {
	File    string `json:"file"` // - for standard output
	Packets int64  `json:"packets"`
	Dropped uint64 `json:"dropped_packets"` // those that came faster than they could be written
	Bytes   int64  `json:"size_bytes"`
	Full    bool   `json:"limit_reached"`

	filter  string
	snaplen int
	limit   int64 // MiB
}

// check refuses flags before anything is done.
func (c *capturing) check(out io.Writer) error {
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
		return &usageError{errors.New("-o -: standard output is a terminal, and packets are not for it; give it to a program, or name a file")}
	case c.File == asJSON || c.File == asText:
		return &usageError{fmt.Errorf("-o %s: here -o is the file to write (./%[1]s, if it is to be called that); "+
			"--summary %[1]s says how to print what was captured", c.File)}
	}
	return nil
}

// run captures until the command is interrupted, the gateway ends, or the limit is reached.
func (c *capturing) run(cmd *cobra.Command, gateway *control.Client) error {
	out := cmd.OutOrStdout()
	if c.File != "-" {
		f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("-o %s: there is a file already; name a new one, or delete it first", c.File)
		}
		if err != nil {
			return fmt.Errorf("-o: %w", err)
		}
		out = f
	}
	begun := false
	to := &capture.BlockWriter{W: out, Limit: c.limit << 20}
	err := gateway.Capture(cmd.Context(), control.CaptureOptions{Filter: c.filter, Snaplen: c.snaplen}, to, func() {
		begun = true
		fmt.Fprintln(cmd.ErrOrStderr(), "capturing; interrupt to end")
	})
	c.Packets, c.Dropped, c.Bytes, c.Full = to.Packets, to.Dropped, to.Bytes, errors.Is(err, capture.ErrLimit)
	if c.Full || cmd.Context().Err() != nil {
		err = nil // it ended as it was meant to
	}
	if f, ok := out.(*os.File); ok && c.File != "-" {
		if err != nil { // a full disk takes a part of a block
			err = errors.Join(err, f.Truncate(to.Bytes))
		}
		err = errors.Join(err, f.Close())
		if !begun {
			err = errors.Join(err, os.Remove(c.File))
		}
	}
	return err
}

// sum says at the end what was captured.
func (c *capturing) sum(cmd *cobra.Command, format string) error {
	if format == asJSON {
		out := cmd.OutOrStdout()
		if c.File == "-" {
			out = cmd.ErrOrStderr()
		}
		return json.NewEncoder(out).Encode(c)
	}
	text := fmt.Sprintf("%d packets, %s", c.Packets, bytesize.Text(float64(c.Bytes)))
	if c.Dropped > 0 {
		text += fmt.Sprintf("; %d more came too fast and were left out", c.Dropped)
	}
	if c.Full {
		text += fmt.Sprintf("; ended at %d MiB (--limit)", c.limit)
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), text)
	return err
}

const (
	// captureLimit is how large a capture grows unless told otherwise, in MiB: a disk is
	// not to be filled by a capture that somebody forgot.
	captureLimit = 1024
	// maxCaptureLimit is the largest --limit, in MiB: an exbibyte.
	maxCaptureLimit int64 = 1 << 40
)
