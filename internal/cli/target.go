package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/protocol"
)

// targetHelp is the help about TARGET.
const targetHelp = "TARGET is a service of an imported profile, by name (SERVICE, PROFILE/SERVICE or\n" +
	"SERVICE.PROFILE) or by HOST:PORT. With --client and --secret-file it is any HOST:PORT,\n" +
	"and no profile is used. Flags override the settings of the profile."

// auto is the value of --bind-source and --bind-port given without one.
const auto = "auto"

// methods returns the values of --method, without aliases.
func methods() []string {
	return []string{
		protocol.MethodUDP, protocol.MethodUDPSeq, protocol.MethodUDPPassive, protocol.MethodUDPPassiveSeq,
		protocol.MethodTCPSYN, protocol.MethodTCPSYNSeq, protocol.MethodUDPv2,
	}
}

// clientFlags are the flags that say how to reach a TARGET.
type clientFlags struct {
	// All commands: identity and knock.
	id, secretFile, method, session string
	udpPort, port                   uint16
	sequenceLength                  int
	slot                            time.Duration
	legacy                          bool
	gateway, bindSource, bindPort   string

	// Commands that connect.
	noKnock, noAuth, proof, v1 bool
	hint                       string
	buckets                    []int
	timeout                    time.Duration
	connects                   bool // the command connects
}

// addKnocking adds the flags of all commands that knock.
func (f *clientFlags) addKnocking(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.id, "client", "", "client `id`")
	flags.StringVar(&f.secretFile, "secret-file", "", "`file` with the client's secret")
	flags.StringVar(&f.method, "method", protocol.MethodUDP, "knock `method`: "+alternatives(methods()))
	completeFlag(cmd, "client", completeProfiles(func(p *profile.Profile) string { return p.Client }))
	completeFlag(cmd, "secret-file", completeFiles())
	completeFlag(cmd, "method", cobra.FixedCompletions(methods(), cobra.ShellCompDirectiveNoFileComp))
	flags.Uint16Var(&f.udpPort, "udp-port", client.DefaultKnockPort, "UDP `port` for knocks")
	flags.Uint16Var(&f.port, "port", 0, "protected `port` to authenticate for, if a NAT changes it (default: the port of TARGET)")
	flags.IntVar(&f.sequenceLength, "sequence-length", client.DefaultSequenceLength, "number of `parts` of the -seq methods")
	flags.DurationVar(&f.slot, "slot", client.DefaultSlot, "`duration` of a time slot of tcp-syn, tcp-syn-seq and udp-v2")
	flags.BoolVar(&f.legacy, "legacy", false, "send tcp-syn-seq in the legacy format, which uses other ports")
	flags.StringVar(&f.gateway, "gateway", "", "`name` of the gateway, for udp-v2")
	flags.StringVar(&f.bindSource, "bind-source", "", "udp-v2: bind the knock to this source `address`, as the gateway sees it\n"+
		"(without =ADDRESS: the address it is sent from)")
	flags.StringVar(&f.bindPort, "bind-port", "", "udp-v2: bind the knock to this source `port` of the connection\n"+
		"(without =PORT: one chosen for each connection)")
	flags.Lookup("bind-source").NoOptDefVal = auto
	flags.Lookup("bind-port").NoOptDefVal = auto
	flags.StringVar(&f.session, "session", "", "session `id` in hex, 16 to 255 bytes (default: a new one)")
}

// addConnecting adds the flags of all commands that connect.
func (f *clientFlags) addConnecting(cmd *cobra.Command) {
	f.addKnocking(cmd)
	f.connects = true
	flags := cmd.Flags()
	flags.BoolVar(&f.noKnock, "no-knock", false, "do not knock (for services in mode auth, or after knockgw knock)")
	flags.BoolVar(&f.noAuth, "no-auth", false, "do not authenticate (for services in mode knock)")
	flags.BoolVar(&f.proof, "proof", false, "require the gateway to prove that it knows the secret")
	flags.BoolVar(&f.v1, "v1", false, "authenticate with frame v1 instead of envelope v2")
	flags.StringVar(&f.hint, "hint", string(protocol.HintRoute), "hint `mode` of the gateway: route-hint or none")
	hints := []string{string(protocol.HintRoute), string(protocol.HintNone)}
	completeFlag(cmd, "hint", cobra.FixedCompletions(hints, cobra.ShellCompDirectiveNoFileComp))
	flags.IntSliceVar(&f.buckets, "buckets", nil, "allowed envelope `sizes` (default: all)")
	completeFlag(cmd, "buckets", completeBuckets)
	flags.DurationVar(&f.timeout, "timeout", client.DefaultTimeout, "maximum `duration` of connecting to the service")
}

// completeBuckets completes a list of envelope sizes.
func completeBuckets(_ *cobra.Command, _ []string, begun string) (all []string, _ cobra.ShellCompDirective) {
	before := begun[:strings.LastIndex(begun, ",")+1]
	for _, bucket := range protocol.DefaultBuckets() {
		if size := strconv.Itoa(bucket); !slices.Contains(strings.Split(before, ","), size) {
			all = append(all, before+size)
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
}

// target is a TARGET: its address, and a dialer for it.
type target struct {
	*client.Dialer
	name    string // for messages
	address string // host:port
	profile bool   // found in a profile
}

// dial connects to the service.
func (t *target) dial(ctx context.Context) (net.Conn, error) {
	return t.DialContext(ctx, "tcp", t.address)
}

// find returns the target for an argument.
func (f *clientFlags) find(cmd *cobra.Command, text string) (*target, error) {
	given := cmd.Flags().Changed
	if err := client.CheckClock(time.Now()); err != nil { // nothing would answer, without a reason
		fmt.Fprintf(cmd.ErrOrStderr(), "knockgw: %v\n", err)
	}
	if _, _, err := net.SplitHostPort(text); err == nil && given("client") && given("secret-file") {
		t := &target{Dialer: &client.Dialer{Auth: auth.Client{Protocol: auth.V2}}, name: text, address: text}
		return t, f.apply(t.Dialer, func(string) bool { return true })
	}
	dir, err := profile.DefaultDirectory()
	if err != nil {
		return nil, err
	}

	endpoint, err := dir.Find(text)
	if errors.Is(err, profile.ErrNotFound) {
		return nil, &usageError{fmt.Errorf("%w; or write HOST:PORT with --client ID and --secret-file FILE", err)}
	}
	if errors.Is(err, profile.ErrAmbiguous) {
		return nil, &usageError{err}
	}
	if err != nil {
		return nil, err
	}
	if _, bad := dir.Load(); bad != nil && !strings.Contains(text, "/") {
		fmt.Fprintf(cmd.ErrOrStderr(), "knockgw: using %s; a profile that cannot be read may contain it too: %s\n",
			endpoint, singleLine(bad))
	}
	d, err := endpoint.Dialer()
	if err != nil {
		return nil, err
	}
	return &target{Dialer: d, name: endpoint.String(), address: endpoint.Address, profile: true}, f.apply(d, given)
}

// apply overrides the settings of d with the given flags.
func (f *clientFlags) apply(d *client.Dialer, given func(flag string) bool) error {
	if err := f.identify(d, given); err != nil {
		return err
	}
	if given("method") {
		method, err := protocol.ParseMethod(f.method)
		if err != nil {
			return &usageError{fmt.Errorf("--method %s: %w; choose %s", f.method, err, alternatives(methods()))}
		}
		d.Method = method
	}

	set(given("udp-port"), &d.KnockPort, f.udpPort)
	set(given("port"), &d.Port, f.port)
	set(given("gateway"), &d.Gateway, f.gateway)
	set(given("slot"), &d.Slot, f.slot)
	set(given("slot"), &d.Sequence.Slot, f.slot)
	set(given("sequence-length"), &d.Sequence.Length, f.sequenceLength)
	set(given("legacy"), &d.Sequence.Legacy, f.legacy)
	set(given("no-knock"), &d.NoKnock, f.noKnock)
	set(given("no-auth"), &d.NoAuth, f.noAuth)
	set(given("proof"), &d.Auth.Proof, f.proof)
	set(given("buckets"), &d.Auth.Buckets, f.buckets)
	set(given("hint"), &d.Auth.Hint, protocol.HintMode(f.hint))

	if !d.Auth.Hint.Valid() {
		return &usageError{fmt.Errorf("--hint %s: choose route-hint or none", f.hint)}
	}
	for _, bucket := range f.buckets {
		if !slices.Contains(protocol.DefaultBuckets(), bucket) {
			return &usageError{fmt.Errorf("--buckets %d: no gateway accepts envelopes of this size; choose from %v",
				bucket, protocol.DefaultBuckets())}
		}
	}

	if given("v1") {
		d.Auth.Protocol = auth.V2
		set(f.v1, &d.Auth.Protocol, auth.V1)
	}
	if f.timeout < 0 || f.timeout == 0 && f.connects {
		return &usageError{fmt.Errorf("--timeout %v: write a duration such as 15s", f.timeout)}
	}
	d.Timeout = f.timeout
	if err := f.bind(d); err != nil {
		return err
	}
	if f.session != "" {
		var err error
		d.SessionID, err = hex.DecodeString(f.session)
		if err != nil || len(d.SessionID) < protocol.MinSessionID || len(d.SessionID) > protocol.MaxSessionID {
			return &usageError{fmt.Errorf("--session: write 16 to 255 bytes in hex")}
		}
	}
	return nil
}

// set assigns value if the flag was given.
func set[T any](given bool, to *T, value T) {
	if given {
		*to = value
	}
}

// identify applies --client and --secret-file.
func (f *clientFlags) identify(d *client.Dialer, given func(flag string) bool) error {
	switch {
	case !given("client") && !given("secret-file"):
		return nil
	case !given("secret-file"):
		return &usageError{errors.New("--client requires --secret-file")}
	}
	secret, err := config.ReadSecretFile(f.secretFile)
	if err != nil {
		return fmt.Errorf("--secret-file: %w", err)
	}
	id := f.id
	if !given("client") {
		id = d.Identity.ID()
	}
	d.Identity, err = protocol.NewClient(id, secret)
	return err
}

// bind applies --bind-source and --bind-port.
func (f *clientFlags) bind(d *client.Dialer) (err error) {
	switch f.bindSource {
	case "":
	case auto:
		d.BindSource = true
	default:
		if d.Source, err = netip.ParseAddr(f.bindSource); err != nil {
			return &usageError{fmt.Errorf("--bind-source %s: write an IP address, or the flag alone", f.bindSource)}
		}
	}
	d.BindPort = f.bindPort != ""
	if d.BindPort && f.bindPort != auto {
		port, err := strconv.ParseUint(f.bindPort, 10, 16)
		if err != nil || port == 0 {
			return &usageError{fmt.Errorf("--bind-port %s: write a port from 1 to 65535, or the flag alone", f.bindPort)}
		}
		d.Net.LocalAddr = &net.TCPAddr{Port: int(port)}
	}
	return nil
}

// asUsageError makes an invalid option of package client a usage error.
func asUsageError(err error) error {
	if errors.Is(err, client.ErrOption) {
		return &usageError{err}
	}
	return err
}
