package cli

import (
	"fmt"
	"io"
	"net"
)

// plainTextProtocol returns the protocol of a port if it is unencrypted, or
// encrypted only if both sides request it; "" if unknown.
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

// notePlainText notes on a terminal that connections to address are not
// encrypted, if the port suggests it: the local address looks safe. It prints
// nothing for programs that read standard error.
func notePlainText(stderr io.Writer, address string) {
	_, port, err := net.SplitHostPort(address)
	if protocol := plainTextProtocol(port); err == nil && protocol != "" && isTerminal(stderr) {
		fmt.Fprintf(stderr, "knockgw: %s (%s) is not encrypted by knockgw; use the protocol's own TLS\n", address, protocol)
	}
}
