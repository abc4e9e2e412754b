package cli

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/privatefile"
)

// secretSize is the size of a new secret in bytes: the block that HMAC-SHA256
// gets the most out of, twice the least that is allowed.
const secretSize = 32

func keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen [--out FILE]",
		Short: "Make a client's secret",
		Long: "Makes a random secret and writes it as hex:... to a new file with mode 0600, or to standard output.\n" +
			"Both sides read it with secret_file or --secret-file. Where root writes it into somebody else's directory,\n" +
			"as /etc/knockgw is the gateway's, the file is that one's.",
		Args: exactArgs(0),
	}
	out := cmd.Flags().String("out", "", "the new `file`; an existing one is not touched")
	completeFlag(cmd, "out", completeFiles())
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		secret := make([]byte, secretSize)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		line := "hex:" + hex.EncodeToString(secret) + "\n"
		if *out == "" {
			return printResult(cmd, *output, keygenResult{Secret: strings.TrimSpace(line)}, func(w io.Writer) error {
				_, err := io.WriteString(w, line)
				return err
			})
		}
		err := privatefile.Write(*out, []byte(line), false)
		switch {
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("--out %s: there is a file already; name a new one", *out)
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("--out %s: there is no directory %s; make it first", *out, filepath.Dir(*out))
		case err != nil:
			return err
		}
		return printResult(cmd, *output, keygenResult{File: *out}, func(io.Writer) error { return nil })
	}
	return cmd
}

// keygenResult is where the secret is: in a file, or here.
type keygenResult struct {
	File   string `json:"file,omitempty"`
	Secret string `json:"secret,omitempty"`
}
