package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/internal/enroll"
	"github.com/knockgw/knockgw/protocol"
)

// overlap is how long the older secrets are good after a new one was made: a day to import it.
const overlap = 24 * time.Hour

func clientRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a client a new secret beside the old one, and print its new profile",
		Long: "The secrets that the client has end after --overlap; until then either opens the door. The new profile\n" +
			"is printed as client add does, with the --name and --method that it was given there; the client imports it\n" +
			"with --replace.",
		Args: exactArgs(1),
	}
	path := configFlag(cmd)
	cmd.ValidArgsFunction = completeOnce(completeClientFiles(path))
	after := cmd.Flags().Duration("overlap", overlap, "how long the older secrets are still good; 0 ends them at once")
	h := profileOutput{replace: true}
	h.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var until time.Time
		switch {
		case *after < 0:
			return &usageError{fmt.Errorf("--overlap %v: write a time from now on, or 0", *after)}
		case *after > 0:
			until = time.Now().Add(*after).Truncate(time.Second)
		}
		return h.run(cmd, func(secret protocol.Secret) (*enroll.Change, error) {
			return enroll.Rotate(*path, args[0], secret, until)
		}, args[0], "has a new secret")
	}
	return cmd
}
