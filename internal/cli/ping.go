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

const (
	// pingInterval is the time from the end of one attempt to the next: no burden to anybody.
	pingInterval = time.Second
)

func pingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ping TARGET",
		Short: "Tell whether the door opens for me, and how long each step takes",
		Long: "Reaches the service some times, and tells for each which steps worked and how long they took: resolve (the\n" +
			"name), knock (send it), connect (until the gateway answered), authenticate (until it proved that it knows\n" +
			"the secret; --proof=false for one that does not). When a step fails it tells what to check. If the first attempt\n" +
			"gets no answer at all, it is the last.\n\n" +
			"With an authentication it then waits up to 0.3 s, in which a gateway ends the connection if the service\n" +
			"behind it does not run. The service sees a connection that says nothing and ends.\n\n" +
			targetHelp,
		Example: "  knockgw ping ssh\n  knockgw ping ssh -c 10 -o json",
		Args:    exactArgs(1),
	}
	cmd.ValidArgsFunction = completeOnce(completeTargets())
	var f clientFlags
	f.addConnecting(cmd)
	flags := cmd.Flags()
	flags.Lookup("proof").DefValue = "true"
	count := flags.IntP("count", "c", 3, "how `often`")
	interval := flags.Duration("interval", pingInterval, "the `time` between two attempts")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *count < 1:
			return &usageError{fmt.Errorf("--count %d: write 1 or more", *count)}
		case *interval < 0:
			return &usageError{fmt.Errorf("--interval %v: write a time, as in 1s", *interval)}
		}
		t, err := f.find(cmd, args[0])
		if err != nil {
			return err
		}
		// What a profile says of the proof is what the service gives.
		if !flags.Changed("proof") && !t.profile {
			t.Auth.Proof = true
		}
		out := cmd.OutOrStdout()
		tell := func(string, ...any) {}
		if *output == asText {
			tell = func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
		}
		return ping(cmd.Context(), pinger{target: t, count: *count, interval: *interval, printf: tell, json: *output == asJSON, out: out, errs: cmd.ErrOrStderr()})
	}
	return cmd
}

// pinger is what ping is to do.
type pinger struct {
	*target
	count    int
	interval time.Duration
	json     bool
	out      io.Writer
	errs     io.Writer                        // for what takes long
	printf   func(format string, args ...any) // a line of text
}

// ping reaches a service some times and tells how it went. Its error is that of the last attempt that failed.
func ping(ctx context.Context, p pinger) error {
	p.printf("%s at %s", p.name, p.address)
	report := pingReport{Target: p.name, Address: p.address, Attempts: []pingAttempt{}}
	var failure error
	for i := range p.count {
		if i > 0 && !sleep(ctx, p.interval) {
			break
		}
		a, err := p.once(ctx, i+1)
		if mistake := new(usageError); errors.As(err, &mistake) {
			return err // nothing was sent
		}
		if ctx.Err() != nil && err != nil {
			break // it is not the door's fault
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
		p.printf("nothing has confirmed the authentication: no server proof was asked for")
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

// once reaches the service once.
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
		_ = conn.Close() // it has shown what it was for
	case errors.Is(err, client.ErrOption):
		return a, asUsageError(err)
	case errors.As(err, &failure):
		a.Step, a.Error = failure.Step, singleLine(err)
	default:
		a.Error = singleLine(err)
	}
	return a, err
}

// stepService is what comes after the steps that a dialer knows: the service behind the gateway.
const stepService = "service"

// isSilent reports whether an attempt failed because nothing answered, as the next one would.
func isSilent(err error) bool {
	var step *client.StepError
	return errors.As(err, &step) && step.Step == client.StepConnect && isTimeout(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// sleep waits, and tells whether ctx let it.
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
