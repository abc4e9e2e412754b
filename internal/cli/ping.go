package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/client"
)

// pingInterval is the default time between two attempts.
const pingInterval = time.Second

func pingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ping TARGET",
		Short: "Check that a service is reachable, with timings",
		Long: "Connects to the service several times and prints the duration of each step: resolve\n" +
			"(the name), knock (send it), connect (until the gateway accepts the connection),\n" +
			"authenticate (until the gateway proves that it knows the secret; --proof=false if it\n" +
			"does not). If a step fails, ping prints what to check. If the first attempt is not\n" +
			"answered at all, there is no second.\n\n" +
			"After the authentication, ping waits up to 0.3 s for the gateway to close the\n" +
			"connection, which it does if the service behind it is down. The service sees\n" +
			"connections that send nothing and end.\n\n" +
			targetHelp,
		Example: "  knockgw ping ssh\n  knockgw ping ssh -c 10 -o json",
		Args:    exactArgs(1),
	}
	cmd.ValidArgsFunction = completeOnce(completeTargets())
	var f clientFlags
	f.addConnecting(cmd)
	flags := cmd.Flags()
	flags.Lookup("proof").DefValue = "true"
	count := flags.IntP("count", "c", 3, "`number` of attempts")
	interval := flags.Duration("interval", pingInterval, "`duration` between two attempts")
	output := outputFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *count < 1:
			return &usageError{fmt.Errorf("--count %d: write 1 or more", *count)}
		case *interval < 0:
			return &usageError{fmt.Errorf("--interval %v: write a duration such as 1s", *interval)}
		}
		t, err := f.find(cmd, args[0])
		if err != nil {
			return err
		}
		// A profile states if the service sends proofs.
		if !flags.Changed("proof") && !t.profile {
			t.Auth.Proof = true
		}
		out := cmd.OutOrStdout()
		printf := func(string, ...any) {}
		if *output == asText {
			printf = func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
		}
		return ping(cmd.Context(), pinger{
			target: t, count: *count, interval: *interval,
			json: *output == asJSON, out: out, errs: cmd.ErrOrStderr(), printf: printf,
		})
	}
	return cmd
}

// pinger has the options of ping.
type pinger struct {
	*target
	count    int
	interval time.Duration
	json     bool
	out      io.Writer
	errs     io.Writer                        // for notices
	printf   func(format string, args ...any) // prints a line of text
}

// ping connects to a service several times and prints the results. Its error is
// that of the last failed attempt.
func ping(ctx context.Context, p pinger) error {
	p.printf("%s at %s", p.name, p.address)
	report := pingReport{Target: p.name, Address: p.address, Attempts: []pingAttempt{}}
	var failure error
	for i := range p.count {
		if i > 0 && !sleep(ctx, p.interval) {
			break
		}
		a, err := p.once(ctx, i+1)
		if usage := new(usageError); errors.As(err, &usage) {
			return err // nothing was sent
		}
		if ctx.Err() != nil && err != nil {
			break // interrupted
		}
		report.Attempts = append(report.Attempts, a)
		if err != nil {
			failure = err
		}
		p.printf("%s", a)
		if i == 0 && isSilent(err) {
			break
		}
	}

	report.sum()
	p.printf("%s", report.summary())
	if report.Succeeded > 0 && !p.NoAuth && !p.Auth.Proof {
		p.printf("the authentication was not confirmed: no proof was requested")
	}
	if p.json {
		if err := report.write(p.out); err != nil {
			return err
		}
	}
	switch {
	case failure != nil:
		return &reportedError{failure}
	case len(report.Attempts) == 0:
		return errInterrupted
	default:
		return nil
	}
}

// once connects to the service once.
func (p *pinger) once(ctx context.Context, number int) (pingAttempt, error) {
	d := *p.Dialer
	w := dialTrace{start: time.Now()}
	d.Trace = w.hooks()
	t := *p.target
	t.Dialer = &d

	conn, err := t.dialWithNotice(ctx, p.errs)
	a := w.result(number, time.Since(w.start))
	var failure *client.StepError
	switch {
	case err == nil:
		var early *client.EarlyCloseError
		if err = probeEarlyClose(conn, p.Dialer); errors.As(err, &early) && !early.Proven {
			err = &client.StepError{Step: client.StepAuthenticate, Err: err, Address: p.address}
			a.Step = client.StepAuthenticate
		} else if err != nil {
			a.Step = stepService
		}
		if a.OK = err == nil; !a.OK {
			a.Error = singleLine(err)
		}
		_ = conn.Close()
	case errors.Is(err, client.ErrOption):
		return a, asUsageError(err)
	case errors.As(err, &failure):
		a.Step, a.Error = failure.Step, singleLine(err)
	default:
		a.Error = singleLine(err)
	}
	return a, err
}

// stepService follows the steps of a dialer: the service behind the gateway.
const stepService = "service"

// isSilent reports whether an attempt failed because nothing answered: the next
// one would fail too.
func isSilent(err error) bool {
	var step *client.StepError
	return errors.As(err, &step) && step.Step == client.StepConnect && isTimeout(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// sleep waits, and reports whether it was not interrupted by ctx.
func sleep(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
