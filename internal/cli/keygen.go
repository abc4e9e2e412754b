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

// secretSize is the size of a new secret in bytes: the output size of SHA-256,
// beyond which HMAC-SHA256 gains nothing, and twice the required minimum.
const secretSize = 32

func keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen [--out FILE]",
		Short: "Generate a client secret",
		Long: "Generates a random secret and writes it as hex:... to a new file with mode 0600, or to\n" +
			"standard output. Both sides read it with secret_file or --secret-file. If root writes\n" +
			"to a directory of another account, as /etc/knockgw is the gateway's, that account owns\n" +
			"the file.",
		Args: exactArgs(0),
	}
	out := cmd.Flags().String("out", "", "new `file`; an existing one is not replaced")
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
			return fmt.Errorf("--out %s: the file exists; name a new one", *out)
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("--out %s: there is no directory %s; create it first", *out, filepath.Dir(*out))
		case err != nil:
			return err
		}
		return printResult(cmd, *output, keygenResult{File: *out}, func(io.Writer) error { return nil })
	}
	return cmd
}

// keygenResult has the secret, or the file that contains it.
type keygenResult struct {
	File   string `json:"file,omitempty"`
	Secret string `json:"secret,omitempty"`
}
