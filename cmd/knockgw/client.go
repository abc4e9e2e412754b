package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/knockgw/knockgw/auth"
	"github.com/knockgw/knockgw/client"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/protocol"
)

// secretSize is the size of a new secret in bytes: the block that HMAC-SHA256
// gets the most out of, twice the least that is allowed.
const secretSize = 32

func keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen [--out FILE]",
		Short: "Make a client's secret",
		Long: "Makes a random secret and writes it as hex:... to a new file with mode 0600, or to standard output.\n" +
			"Both sides read it with secret_file or --secret-file.",
		Args: exact(0),
	}
	out := cmd.Flags().String("out", "", "the new `file`; an existing one is not touched")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		secret := make([]byte, secretSize)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		line := "hex:" + hex.EncodeToString(secret) + "\n"
		if *out == "" {
			_, err := io.WriteString(cmd.OutOrStdout(), line)
			return err
		}
		f, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, line)
		return errors.Join(err, f.Close())
	}
	return cmd
}

// auto is the value of --bind-source and --bind-port when they are given none.
const auto = "auto"

// clientFlags are what knock and connect have in common.
type clientFlags struct {
	id, secretFile, method, session string
	udpPort, port                   uint16
	sequenceLength                  int
	slot                            time.Duration
	legacy                          bool
	gateway, bindSource, bindPort   string
}

// methods are what --method takes, besides aliases.
const methods = protocol.MethodUDP + ", " + protocol.MethodUDPSeq + ", " +
	protocol.MethodUDPPassive + ", " + protocol.MethodUDPPassiveSeq + ", " +
	protocol.MethodTCPSYN + ", " + protocol.MethodTCPSYNSeq + " or " + protocol.MethodUDPv2

func (f *clientFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.id, "client", "", "the client `id` (required)")
	flags.StringVar(&f.secretFile, "secret-file", "", "the `file` with the client's secret (required)")
	flags.StringVar(&f.method, "method", protocol.MethodUDP, "how to knock: "+methods)
	flags.Uint16Var(&f.udpPort, "udp-port", client.DefaultKnockPort, "the UDP `port` that takes knocks")
	flags.Uint16Var(&f.port, "port", 0, "the protected `port` in MACs, where a NAT changes it (default: the one dialled)")
	flags.IntVar(&f.sequenceLength, "sequence-length", client.DefaultSequenceLength, "the number of `parts` of a -seq method")
	flags.DurationVar(&f.slot, "slot", client.DefaultSlot, "the `length` of the time slots of tcp-syn, tcp-syn-seq and udp-v2")
	flags.BoolVar(&f.legacy, "legacy", false, "send tcp-syn-seq in its older spelling, to other ports")
	flags.StringVar(&f.gateway, "gateway", "", "the `name` of the gateway that a udp-v2 knock is for")
	flags.StringVar(&f.bindSource, "bind-source", "", "udp-v2: a knock good from this `address` only, which the gateway sees\n"+
		"(without =ADDRESS: the one that it is sent from)")
	flags.StringVar(&f.bindPort, "bind-port", "", "udp-v2: a knock good for a connection from this source `port` only\n"+
		"(without =PORT: one that connect chooses)")
	flags.Lookup("bind-source").NoOptDefVal = auto
	flags.Lookup("bind-port").NoOptDefVal = auto
	flags.StringVar(&f.session, "session", "", "the session `id` in hex, 16 to 255 bytes (default: a new one)")
	for _, name := range []string{"client", "secret-file"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flags were added above
		}
	}
}

func (f *clientFlags) dialer() (*client.Dialer, error) {
	secret, err := config.ReadSecretFile(f.secretFile)
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	id, err := protocol.NewClient(f.id, secret)
	if err != nil {
		return nil, err
	}
	method, err := protocol.ParseMethod(f.method)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--method %s: %w; choose %s", f.method, err, methods)}
	}
	d := &client.Dialer{
		Identity: id, Method: method, KnockPort: f.udpPort, Port: f.port, Gateway: f.gateway,
		Slot: f.slot, Sequence: client.Sequence{Length: f.sequenceLength, Slot: f.slot, Legacy: f.legacy},
	}
	if err := f.bind(d); err != nil {
		return nil, err
	}
	if f.session != "" {
		d.SessionID, err = hex.DecodeString(f.session)
		if err != nil || len(d.SessionID) < protocol.MinSessionID || len(d.SessionID) > protocol.MaxSessionID {
			return nil, &usageError{fmt.Errorf("--session: write 16 to 255 bytes in hex")}
		}
	}
	return d, nil
}

// bind does what --bind-source and --bind-port say.
func (f *clientFlags) bind(d *client.Dialer) (err error) {
	switch f.bindSource {
	case "":
	case auto:
		d.BindSource = true
	default:
		if d.Source, err = netip.ParseAddr(f.bindSource); err != nil {
			return &usageError{fmt.Errorf("--bind-source: %w; write an IP address, or the flag alone", err)}
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

// usage makes a mistake on the command line of what the client calls a bad option.
func usage(err error) error {
	if errors.Is(err, client.ErrOption) {
		return &usageError{err}
	}
	return err
}

func knockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "knock HOST:PORT --client ID --secret-file FILE",
		Short: "Send one knock",
		Long: "Sends one knock for the service at HOST:PORT and prints the session id that it carried, which\n" +
			"an authentication on the connection must repeat (connect --no-knock --session). After a SYN, which\n" +
			"carries none, any will do. The SYN methods need Linux and root or CAP_NET_RAW.\n\n" +
			"A knock with --bind-port=PORT needs connect --no-knock --bind-port=PORT.",
		Args: exact(1),
	}
	var f clientFlags
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.bindPort == auto {
			return &usageError{errors.New("--bind-port: say which port the connection will come from, --bind-port=PORT")}
		}
		d, err := f.dialer()
		if err != nil {
			return err
		}
		session := d.SessionID
		if session == nil {
			if session, err = d.NewSession(); err != nil {
				return err
			}
		}
		var target netip.AddrPort
		if target, err = client.Resolve(cmd.Context(), "tcp", args[0]); err != nil {
			return err
		}
		if err := d.Knock(cmd.Context(), target, session); err != nil {
			return usage(err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "session", hex.EncodeToString(session))
		return err
	}
	return cmd
}

func connectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "connect HOST:PORT --client ID --secret-file FILE",
		Short: "Knock, connect, and join standard input and output to the service",
		Long: "For example as SSH's ProxyCommand:\n\n" +
			"  ssh -o ProxyCommand='knockgw connect %h:%p --client alice --secret-file ~/.config/knockgw/alice.key' host",
		Args: exact(1),
	}
	var (
		f       clientFlags
		v1      bool
		buckets []int
	)
	f.add(cmd)
	flags := cmd.Flags()
	noKnock := flags.Bool("no-knock", false, "do not knock: for services in mode auth, or after knockgw knock")
	noAuth := flags.Bool("no-auth", false, "do not authenticate: for services in mode knock")
	proof := flags.Bool("proof", false, "have the gateway prove that it knows the secret too")
	flags.BoolVar(&v1, "v1", false, "authenticate with frame v1 instead of envelope v2")
	hint := flags.String("hint", string(protocol.HintRoute), "the gateway's hint mode: route-hint or none")
	flags.IntSliceVar(&buckets, "buckets", nil, "envelope sizes to choose from (default: all)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := f.dialer()
		if err != nil {
			return err
		}
		d.NoKnock, d.NoAuth = *noKnock, *noAuth
		d.Auth = auth.Client{Protocol: auth.V2, Hint: protocol.HintMode(*hint), Buckets: buckets, Proof: *proof}
		if !d.Auth.Hint.Valid() {
			return &usageError{fmt.Errorf("--hint %s: choose route-hint or none", *hint)}
		}
		if v1 {
			d.Auth.Protocol = auth.V1
		}
		conn, err := d.DialContext(cmd.Context(), "tcp", args[0])
		if err != nil {
			return usage(err)
		}
		return join(cmd, conn)
	}
	return cmd
}

// join copies standard input to conn and conn to standard output until conn
// ends. The end of the input is passed on; the reply to it still comes.
func join(cmd *cobra.Command, conn net.Conn) error {
	sent := make(chan error, 1)
	go func() {
		// Not waited for when conn ends first: nothing can interrupt a read of
		// standard input, and the process is about to exit.
		_, err := io.Copy(conn, cmd.InOrStdin())
		if c, ok := conn.(interface{ CloseWrite() error }); ok && err == nil {
			err = c.CloseWrite()
		}
		sent <- err
	}()
	_, err := io.Copy(cmd.OutOrStdout(), conn)
	if err != nil {
		return errors.Join(fmt.Errorf("receive: %w", err), conn.Close())
	}
	select {
	case err = <-sent:
		if err != nil && !errors.Is(err, net.ErrClosed) {
			err = fmt.Errorf("send: %w", err)
		}
	default: // the service closed first
	}
	return errors.Join(err, conn.Close())
}

// isMissingFlag recognises cobra's own error, which has no type.
func isMissingFlag(err error) bool { return strings.HasPrefix(err.Error(), "required flag") }
