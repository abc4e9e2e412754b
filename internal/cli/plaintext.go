package cli

import (
	"fmt"
	"io"
	"net"
)

// plainTextProtocol is the protocol that is spoken at a port without encryption,
// or with it only where client and server ask for it; "" for none that is known.
func plainTextProtocol(port string) string {
	switch port {
	case "21":
		return "FTP"
	case "23":
		return "Telnet"
	case "80", "8080":
		return "HTTP"
	case "3306":
		return "MySQL"
	case "5432":
		return "PostgreSQL"
	case "6379":
		return "Redis"
	default:
		return ""
	}
}

// notePlainText says on a person's terminal that what is forwarded to address is
// not encrypted, where that is likely to matter: the local address looks as if it
// were safe. Programs that read standard error are not told.
func notePlainText(stderr io.Writer, address string) {
	_, port, err := net.SplitHostPort(address)
	if protocol := plainTextProtocol(port); err == nil && protocol != "" && isTerminal(stderr) {
		fmt.Fprintf(stderr, "knockgw: %s (%s) is not encrypted by knockgw; use the protocol's own TLS\n", address, protocol)
	}
}
