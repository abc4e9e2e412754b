package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// errorCase is a file and the expected error: line, key, and part of the message.
type errorCase struct {
	name   string
	text   string
	line   int
	key    string
	remedy string
}

// longFile is more lines than the parser tries one by one when it looks for the
// line with the syntax error.
const longFile = 1000

// Lines of minimal, for replacements.
const (
	tunLine     = "tun: {routes: [10.77.0.0/24]}"
	aliceLine   = "  - {id: alice, secret: 0123456789abcdef}"
	serviceLine = `  - {name: ssh, listen: "10.77.0.1:22", upstream: "10.0.2.2:2222"}`
)

// replaceInMinimal returns minimal with one replacement.
func replaceInMinimal(old, now string) string { return strings.Replace(minimal, old, now, 1) }

// withListen returns minimal with another listen, as YAML.
func withListen(text string) string { return replaceInMinimal(`"10.77.0.1:22"`, text) }

// withClientKeys returns minimal with keys added to its client.
func withClientKeys(keys string) string { return replaceInMinimal("id: alice", "id: alice, "+keys) }

// withSecrets returns minimal with a list of secrets for its client.
func withSecrets(list string) string {
	return replaceInMinimal("secret: 0123456789abcdef", "secrets: "+list)
}

// withUpstream returns minimal with another upstream, as YAML.
func withUpstream(text string) string { return replaceInMinimal(`"10.0.2.2:2222"`, text) }

// withLocal returns minimal with tun.local.
func withLocal(list string) string {
	return replaceInMinimal(tunLine, "tun: {routes: [10.77.0.0/24], local: ["+list+"]}")
}

// withSecret returns minimal with another secret, as YAML.
func withSecret(text string) string { return replaceInMinimal("0123456789abcdef", text) }

func errorCases() []errorCase {
	return []errorCase{
		{"empty file", "", 1, "", "the file is empty"},
		{"only a comment", "# nothing\n", 1, "", "the file is empty"},
		{"only null", "~\n", 1, "", "must be a mapping"},
		{"list", "- a\n", 1, "", "its keys are version, tun"},
		{"second document", minimal + "---\na: 1\n", 6, "", "without ---"},
		{"broken after the end", minimal + "---\n\"a\n", 7, "", "check the indentation and the quotes"},
		{"bad indentation", minimal + "   state: {}\n", 6, "", "check the indentation"},
		{"mistake in a long file", minimal + strings.Repeat("# more\n", longFile) + "a: b: c\n" + strings.Repeat("# more\n", 9),
			6 + longFile, "", "check the indentation"},
		{"tab", "tun:\n\tname: x\n", 2, "", "check the indentation"},
		{"unclosed bracket", "tun: {routes: [10.0.0.0/8\n", 1, "", "check the indentation"},
		{"not UTF-8", "a: \xff", 1, "", "check the indentation and the quotes"},
		{"brackets without quotes", "services:\n  - name: ssh\n    port: 22\n    listen: [fd77::1]:22\n    mode: knock\n",
			4, "", `write "[fd77::1]:22" in quotes`},
		{"original without quotes", "services:\n  - name: ssh\n    upstream: original:\n    mode: knock\n",
			3, "", `write "original:" in quotes`},
		{"unknown anchor", withSecret("*hunter2hunter2hunter2"), 3, "", "put text that starts with it in quotes"},

		{"version", "version: 2\n" + minimal, 1, "version", "write 1"},
		{"unknown key at the top", minimal + "service: []\n", 6, "", "did you mean services?"},
		{"unknown key, none near", minimal + "firewall: yes\n", 6, "", "known here are version, tun, knock"},
		{"unknown key in a section", replaceInMinimal(tunLine, "tun:\n  mut: 1500\n  routes: [10.77.0.0/24]"), 2, "tun", "did you mean mtu?"},
		{"unknown key in a service", withService("visable: true"), 5, "services[0]", "did you mean visible?"},
		{"unknown key with dashes", withService("dial-timeout: 5s"), 5, "services[0]", "did you mean dial_timeout?"},
		{"unknown key in a grant", withService("grant: {tll: 1s}"), 5, "services[0].grant", "did you mean ttl?"},
		{"unknown key in a client", replaceInMinimal("id: alice", "id: alice, service: ssh"), 3, "clients[0]", "did you mean services?"},
		{"key of a mapping", minimal + "{a: 1}: 2\n", 6, "", "only plain keys"},
		{"merge key", replaceInMinimal(aliceLine, "  - &a {id: alice, secret: 0123456789abcdef}\n  - {<<: *a, id: bob}"), 4, "clients[1]", "only plain keys"},
		{"duplicate key", minimal + "tun: {}\n", 6, "tun", "already given in line 1; remove one"},
		{"duplicate key in a service", withService("name: b"), 5, "services[0].name", "already given in line 5"},
		{"key without a value", minimal + "state:\n", 6, "state", "give it one, or remove the key"},

		{"text for a mapping", minimal + "state: /var/lib\n", 6, "state", "must be a mapping of keys to values, not text"},
		{"mapping for a list", replaceInMinimal("[10.77.0.0/24]", "{a: b}"), 1, "tun.routes", "must be a list, not a mapping"},
		{"text for a list", replaceInMinimal("[10.77.0.0/24]", "10.77.0.0/24"), 1, "tun.routes", "put it in brackets"},
		{"number for text", replaceInMinimal("name: ssh", "name: 22"), 5, "services[0].name", "put it in quotes"},
		{"list for text", replaceInMinimal("name: ssh", "name: [ssh]"), 5, "services[0].name", "must be text, not a list"},
		{"empty text", replaceInMinimal("name: ssh", `name: ""`), 5, "services[0].name", "is empty"},
		{"text for a number", replaceInMinimal("{routes", "{mtu: big, routes"), 1, "tun.mtu", "must be a whole number, not text"},
		{"fraction", replaceInMinimal("{routes", "{mtu: 1500.5, routes"), 1, "tun.mtu", "must be a whole number"},
		{"enormous number", replaceInMinimal("{routes", "{mtu: 99999999999999999999, routes"), 1, "tun.mtu", "must be a whole number"},
		{"yes for true", withService("visible: yes"), 5, "services[0].visible", "must be true or false, not text"},
		{"number for true", withService("visible: 1"), 5, "services[0].visible", "must be true or false"},
		{"list for a time", withService("idle: [5m]"), 5, "services[0].idle", "must be a time such as 24h0m0s"},
		{"time without a unit", withService("idle: 300"), 5, "services[0].idle", "write 300s for seconds"},
		{"no time", withService("idle: soon"), 5, "services[0].idle", `"soon" is not a time; write it as 24h0m0s`},
		{"negative time", withService("idle: -5m"), 5, "services[0].idle", "write a time from"},

		{"long device name", replaceInMinimal("{routes", "{name: abcdefghijklmnop, routes"), 1, "tun.name", "at most 15"},
		{"device name with a slash", replaceInMinimal("{routes", "{name: a/b, routes"), 1, "tun.name", "use letters and digits"},
		{"device name to be filled in", replaceInMinimal("{routes", "{name: knock%d, routes"), 1, "tun.name", "use letters and digits"},
		{"mtu too small", replaceInMinimal("{routes", "{mtu: 575, routes"), 1, "tun.mtu", "from 576 to 65535"},
		{"mtu too large", replaceInMinimal("{routes", "{mtu: 65536, routes"), 1, "tun.mtu", "from 576 to 65535"},
		{"mtu too small for IPv6", replaceInMinimal(tunLine, `tun: {mtu: 1279, routes: [10.77.0.0/24, "fd77::/64"]}`), 1, "tun.mtu", "write 1280 or more"},
		{"unknown filter", replaceInMinimal("{routes", "{filter: on, routes"), 1, "tun.filter", "write auto, off or require"},
		{"filter that is no text", replaceInMinimal("{routes", "{filter: true, routes"), 1, "tun.filter", "must be text"},
		{"no routes", replaceInMinimal("[10.77.0.0/24]", "[]"), 1, "tun.routes", "name the prefixes"},
		{"route that is none", replaceInMinimal("[10.77.0.0/24]", "[10.77/24]"), 1, "tun.routes[0]", "write one as 10.77.0.0/24"},
		{"route without length", replaceInMinimal("[10.77.0.0/24]", "[10.77.0.1]"), 1, "tun.routes[0]", "write 10.77.0.1/32"},
		{"route with host bits", replaceInMinimal("[10.77.0.0/24]", "[10.77.0.1/24]"), 1, "tun.routes[0]", "write 10.77.0.0/24 for the network or 10.77.0.1/32"},
		{"mapped route with host bits", replaceInMinimal("[10.77.0.0/24]", `["::ffff:10.77.0.1/120"]`), 1, "tun.routes[0]", "write 10.77.0.0/24"},
		{"route to everything", replaceInMinimal("[10.77.0.0/24]", "[10.77.0.0/24, 0.0.0.0/0]"), 1, "tun.routes[1]", "name the protected ones"},
		{"route to loopback", replaceInMinimal("[10.77.0.0/24]", "[10.77.0.0/24, 127.0.0.0/8]"), 1, "tun.routes[1]", "use an address of a network of its own"},
		{"route twice", replaceInMinimal("[10.77.0.0/24]", "\n  [10.77.0.0/24,\n  10.77.0.0/24]"), 3, "tun.routes[1]", "already given in line 2"},

		{"udp_port 0", minimal + "knock: {udp_port: 0}\n", 6, "knock.udp_port", "from 1 to 65535"},
		{"window too short", minimal + "knock: {window: 999ms}\n", 6, "knock.window", "from 1s to 5m0s"},
		{"window too long", minimal + "knock: {window: 301s}\n", 6, "knock.window", "from 1s to 5m0s"},
		{"sequence too short", minimal + "knock: {sequence: {length: 1}}\n", 6, "knock.sequence.length", "from 2 to 8"},
		{"sequence too long", minimal + "knock: {sequence: {length: 9}}\n", 6, "knock.sequence.length", "from 2 to 8"},
		{"sequence too long for SYNs", minimal + "knock: {sequence: {length: 6}}\n", 6, "knock.sequence.length", "write at most 5, or name the service's other methods"},
		{"sequence too long for a service", withService("knock: [tcp-syn-seq]") + "knock: {sequence: {length: 6}}\n",
			5, "services[0].knock", "lower that, or remove tcp-syn-seq"},
		{"slot of a fraction", minimal + "knock: {sequence: {slot: 1500ms}}\n", 6, "knock.sequence.slot", "write 1s"},
		{"legacy of text", minimal + "knock: {sequence: {legacy: on}}\n", 6, "knock.sequence.legacy", "must be true or false, not text"},
		{"gateway of a number", minimal + "knock: {gateway: 1}\n", 6, "knock.gateway", "put it in quotes"},
		{"gateway without a value", minimal + "knock: {gateway: }\n", 6, "knock.gateway", "give it one, or remove the key"},
		{"long gateway", minimal + "knock: {gateway: " + strings.Repeat("ü", 128) + "}\n", 6, "knock.gateway", "has 256 bytes, and a gateway's name at most 255"},
		{"slot of udp-v2 of a fraction", minimal + "knock: {slot: 1500ms}\n", 6, "knock.slot", "write 1s"},
		{"slot of udp-v2 too long", minimal + "knock: {slot: 1h}\n", 6, "knock.slot", "from 1s to 5m0s"},
		{"sequence window", minimal + "knock: {sequence: {window: 0s}}\n", 6, "knock.sequence.window", "from 1s"},

		{"no clients named", replaceInMinimal("clients:\n"+aliceLine, "clients: []"), 2, "clients", "remove the key"},
		{"client that is none", replaceInMinimal(aliceLine, "  - alice"), 3, "clients[0]", "must be a mapping"},
		{"client without id", replaceInMinimal("id: alice, ", ""), 3, "clients[0].id", "id: client-1"},
		{"id with NUL", replaceInMinimal("id: alice", `id: "a\0b"`), 3, "clients[0].id", "without NUL"},
		{"duplicate id", replaceInMinimal(aliceLine, aliceLine+"\n"+aliceLine), 4, "clients[1].id", "already the client of line 3"},
		{"no secret", replaceInMinimal(", secret: 0123456789abcdef", ""), 3, "clients[0]", "make the file with knockgw keygen"},
		{"secret and file", replaceInMinimal("secret: ", "secret_file: x, secret: "), 3, "clients[0].secret", "remove one of them"},
		{"short secret", withSecret("0123456789abcde"), 3, "clients[0].secret", "has 15 bytes and needs at least 16"},
		{"short hexadecimal secret", withSecret(`"hex:0123456789abcdef"`), 3, "clients[0].secret", "has 8 bytes"},
		{"secret of digits", withSecret("12345678901234567"), 3, "clients[0].secret", "put it in quotes"},
		{"hexadecimal secret that is none", withSecret(`"hex:0123456789abcdefg"`), 3, "clients[0].secret", "two digits 0-9, a-f"},
		{"base64 secret that is none", withSecret(`"base64:!!!!"`), 3, "clients[0].secret", "is not base64"},
		{"missing secret file", replaceInMinimal("secret: 0123456789abcdef", "secret_file: /nowhere/key"), 3, "clients[0].secret_file", "correct the path"},
		{"secret file with a line end in its name", replaceInMinimal("secret: 0123456789abcdef", `secret_file: "/nowhere/a\nb"`), 3, "clients[0].secret_file", "correct the path"},
		{"directory for a secret file", replaceInMinimal("secret: 0123456789abcdef", "secret_file: /"), 3, "clients[0].secret_file", "not a regular file"},
		{"secrets and secret", withClientKeys("secrets: [{secret: 0123456789abcdeg}]"), 3, "clients[0].secret", "move this one into its list"},
		{"secrets and secret file", replaceInMinimal("secret: 0123456789abcdef", "secret_file: x, secrets: [{secret: 0123456789abcdef}]"),
			3, "clients[0].secret_file", "move this one into its list"},
		{"no secrets", withSecrets("[]"), 3, "clients[0].secrets", "name a secret, as in"},
		{"secrets that are text", withSecrets("0123456789abcdef"), 3, "clients[0].secrets", "must be a list, not text"},
		{"list of bare secrets", withSecrets("[0123456789abcdef]"), 3, "clients[0].secrets[0]", "its keys are secret, secret_file, until"},
		{"too many secrets", withSecrets("[" + strings.Repeat("{secret: 0123456789abcdef}, ", 9) + "]"), 3, "clients[0].secrets", "has 9 secrets, and a client at most 8; remove"},
		{"secret of a list without one", withSecrets("[{until: 2030-12-31}]"), 3, "clients[0].secrets[0]", "make the file with knockgw keygen"},
		{"secret and file in a list", withSecrets("[{secret_file: x, secret: 0123456789abcdef}]"), 3, "clients[0].secrets[0].secret", "remove one of them"},
		{"short secret in a list", withSecrets("\n    [{secret: 0123456789abcdef},\n    {secret: 0123456789abcde}]"), 5, "clients[0].secrets[1].secret", "has 15 bytes"},
		{"missing secret file in a list", withSecrets("[{secret_file: /nowhere/key}]"), 3, "clients[0].secrets[0].secret_file", "correct the path"},
		{"secret twice", withSecrets("\n    [{secret: 0123456789abcdef, until: 2030-12-31},\n    {secret: \"hex:30313233343536373839616263646566\"}]"),
			5, "clients[0].secrets[1].secret", "the same secret as in line 4; remove one of them"},
		{"unknown key of a secret", withSecrets("[{secret: 0123456789abcdef, untl: 2030-12-31}]"), 3, "clients[0].secrets[0]", "did you mean until?"},
		{"until of words", withSecrets("[{secret: 0123456789abcdef, until: tomorrow}]"), 3, "clients[0].secrets[0].until", `"tomorrow": is not a date; write it as 2030-12-31`},
		{"until a year", withSecrets("[{secret: 0123456789abcdef, until: 2030}]"), 3, "clients[0].secrets[0].until", "must be a date such as 2030-12-31, not a number"},
		{"until a list", withSecrets("[{secret: 0123456789abcdef, until: [2030-12-31]}]"), 3, "clients[0].secrets[0].until", "must be a date such as 2030-12-31, not a list"},
		{"until a day that is none", withSecrets("[{secret: 0123456789abcdef, until: 2030-02-30}]"), 3, "clients[0].secrets[0].until", "is not a date"},
		{"until a time without offset", withSecrets("[{secret: 0123456789abcdef, until: 2030-12-31T18:00:00}]"), 3, "clients[0].secrets[0].until", "add Z for UTC"},
		{"until before all clocks", withSecrets("[{secret: 0123456789abcdef, until: 0001-01-01T00:00:00Z}]"), 3, "clients[0].secrets[0].until", "write one from 1970 to 9998"},
		{"until the last day of all", withSecrets("[{secret: 0123456789abcdef, until: 9999-12-31}]"), 3, "clients[0].secrets[0].until", "write one from 1970 to 9998"},
		{"expires of words", withClientKeys("expires: never"), 3, "clients[0].expires", `"never": is not a date; write it as 2030-12-31`},
		{"expires a number", withClientKeys("expires: 20301231"), 3, "clients[0].expires", "must be a date such as 2030-12-31, not a number"},
		{"hours of text", withClientKeys(`hours: "08:00-18:00"`), 3, "clients[0].hours", "its keys are days, from, to, zone"},
		{"unknown key of hours", withClientKeys("hours: {form: 08:00}"), 3, "clients[0].hours", "did you mean from?"},
		{"one day without brackets", withClientKeys("hours: {days: mon}"), 3, "clients[0].hours.days", "put it in brackets"},
		{"no days", withClientKeys("hours: {days: []}"), 3, "clients[0].hours.days", "remove the key for every day"},
		{"a day by another name", withClientKeys("hours: {days: [mon, Tuesday]}"), 3, "clients[0].hours.days[1]", "write mon, tue, wed"},
		{"from a number", withClientKeys("hours: {from: 800}"), 3, "clients[0].hours.from", "put it in quotes"},
		{"from without a nought", withClientKeys("hours: {from: 8:00}"), 3, "clients[0].hours.from", `"8:00" is not a time of day; write it as 08:00`},
		{"from after the end", withClientKeys("hours: {from: 24:01}"), 3, "clients[0].hours.from", "from 00:00 to 24:00"},
		{"from the end", withClientKeys("hours: {from: 24:00}"), 3, "clients[0].hours.from", "write 00:00"},
		{"from the end to the end", withClientKeys("hours: {from: 24:00, to: 24:00}"), 3, "clients[0].hours.from", "write 00:00"},
		{"to with seconds", withClientKeys(`hours: {to: "18:00:00"}`), 3, "clients[0].hours.to", "write it as 08:00"},
		{"to in the afternoon", withClientKeys("hours: {to: 6pm}"), 3, "clients[0].hours.to", "write it as 08:00"},
		{"to the beginning", withClientKeys("hours: {to: 00:00}"), 3, "clients[0].hours.to", "write 24:00 for its end"},
		{"to what it is from", withClientKeys("hours: {from: 08:00, to: 08:00}"), 3, "clients[0].hours.to", "remove both for the whole day"},
		{"unknown zone", withClientKeys("hours: {days: [mon], zone: Europe/Atlantis}"), 3, "clients[0].hours.zone", "not a time zone of this system"},
		{"zone of the host", withClientKeys("hours: {days: [mon], zone: Local}"), 3, "clients[0].hours.zone", "name it, such as Europe/Berlin"},
		{"zone out of the way", withClientKeys("hours: {days: [mon], zone: ../passwd}"), 3, "clients[0].hours.zone", "write one such as Europe/Berlin"},
		{"no grants", withClientKeys("max_grants: 0"), 3, "clients[0].max_grants", "from 1 to 65536"},
		{"too many grants", withClientKeys("max_grants: 65537"), 3, "clients[0].max_grants", "from 1 to 65536"},
		{"a profile without a name", withClientKeys("profile: {name: ''}"), 3, "clients[0].profile.name", "is empty"},
		{"a profile with another method", withClientKeys("profile: {method: ftp}"), 3, "clients[0].profile.method", "choose udp"},
		{"a profile with more in it", withClientKeys("profile: {secret: x}"), 3, "clients[0].profile", "unknown key"},
		{"no flows", withClientKeys("max_flows: 0"), 3, "clients[0].max_flows", "from 1 to 65536"},
		{"flows of text", withClientKeys("max_flows: many"), 3, "clients[0].max_flows", "must be a whole number, not text"},
		{"unknown service", replaceInMinimal("id: alice", "id: alice, services: [shh]"), 3, "clients[0].services[0]", "did you mean ssh?"},
		{"unknown service, none near", replaceInMinimal("id: alice", "id: alice, services: [ssh, database]"), 3, "clients[0].services[1]", "or add it there"},
		{"number for a service", replaceInMinimal("id: alice", "id: alice, services: [22]"), 3, "clients[0].services[0]", "put it in quotes"},
		{"no services for a client", replaceInMinimal("id: alice", "id: alice, services: []"), 3, "clients[0].services", "remove the key for all"},

		{"services missing", tunLine + "\n", 1, "services", "name at least one"},
		{"no services", replaceInMinimal("services:\n"+serviceLine, "services: []"), 4, "services", "there is nothing to protect"},
		{"service without name", replaceInMinimal("name: ssh, ", ""), 5, "services[0].name", "name: service-1"},
		{"name with a space", replaceInMinimal("name: ssh", "name: my ssh"), 5, "services[0].name", "use 1 to 64 letters"},
		{"duplicate name", minimal + strings.Replace(serviceLine, ":22\"", ":23\"", 1), 6, "services[1].name", "already the service of line 5"},
		{"service without listen", replaceInMinimal(`listen: "10.77.0.1:22", `, ""), 5, "services[0].listen", "as 10.77.0.1:22"},
		{"listen without port", withListen("10.77.0.1"), 5, "services[0].listen", `"10.77.0.1": a port is missing; write it as 10.77.0.1:22`},
		{"prefix without port", withListen("10.77.0.0/24"), 5, "services[0].listen", "write it as 10.77.0.0/24:22"},
		{"IPv6 without port", withListen(`"[fd77::1]"`), 5, "services[0].listen", `write it as "[fd77::1]:22"`},
		{"IPv6 without brackets", withListen("fd77::1:22"), 5, "services[0].listen", "needs brackets"},
		{"IPv6 prefix without brackets", withListen("fd77::/64:22"), 5, "services[0].listen", `"[fd77::/64]:22"`},
		{"listen on port 0", withListen("10.77.0.1:0"), 5, "services[0].listen", "from 1 to 65535"},
		{"listen on a name of a port", withListen("10.77.0.1:ssh"), 5, "services[0].listen", "from 1 to 65535"},
		{"listen on a host name", withListen("gateway:22"), 5, "services[0].listen", "not an IP address"},
		{"listen everywhere", withListen("0.0.0.0:22"), 5, "services[0].listen", "name the address that clients dial"},
		{"listen on loopback", withListen("127.0.0.1:22"), 5, "services[0].listen", "a network of its own"},
		{"listen with a zone", withListen(`"[fe80::1%eth0]:22"`), 5, "services[0].listen", "remove %"},
		{"listen with host bits", withListen("10.77.0.1/24:22"), 5, "services[0].listen", "write 10.77.0.0/24"},
		{"listen outside of routes", withListen("10.78.0.1:22"), 5, "services[0].listen", "add 10.78.0.1/32 there"},
		{"prefix wider than its route", withListen("10.77.0.0/23:22"), 5, "services[0].listen", "add 10.77.0.0/23 there"},
		{"prefix reaching out of its route", withListen("10.76.0.0/15:22"), 5, "services[0].listen", "add 10.76.0.0/15 there"},
		{"overlap", minimal + `  - {name: b, listen: "10.77.0.1:22", upstream: "10.0.2.2:1"}`, 6, "services[1].listen", "overlaps with service ssh (10.77.0.1, line 5); change the address or the port"},
		{"overlap with a prefix", minimal + `  - {name: b, listen: "10.77.0.0/28:22", upstream: "10.0.2.2:1"}`, 6, "services[1].listen", "overlaps with service ssh"},
		{"overlap with a mapped address", minimal + `  - {name: b, listen: "[::ffff:10.77.0.1]:22", upstream: "10.0.2.2:1"}`, 6, "services[1].listen", "overlaps with service ssh"},
		{"MAC port", withService("port: 70000"), 5, "services[0].port", "from 1 to 65535"},

		{"local port twice", withLocal(`"203.0.113.7:22", "203.0.113.7:22"`), 1, "tun.local[1]", "remove one of them"},
		{"local port of a prefix", withLocal(`"203.0.113.0/24:22"`), 1, "tun.local[0]", "name an address of this host"},
		{"local port in a route", withLocal(`"10.77.0.9:22"`), 1, "tun.local[0]", "remove one of them"},
		{"local port that Linux has no rules for", withLocal(`"203.0.113.7:65535"`), 1, "tun.local[0]", "choose another one"},
		{"local port of the loopback", withLocal(`"127.0.0.1:22"`), 1, "tun.local[0]", ""},
		{"upstream that is hidden itself", withLocal(`"10.0.2.2:2222"`), 5, "services[0].upstream", "127.0.0.1:2222"},
		{"no upstream", replaceInMinimal(`, upstream: "10.0.2.2:2222"`, ""), 5, "services[0].upstream", "write the address of the service itself"},
		{"upstream without port", withUpstream("10.0.2.2"), 5, "services[0].upstream", "write it as 10.0.2.2:22"},
		{"upstream name without port", withUpstream("db.example"), 5, "services[0].upstream", "write it as db.example:22"},
		{"upstream without host", withUpstream(`":22"`), 5, "services[0].upstream", "write 127.0.0.1:22 for this host"},
		{"upstream that is a mistyped address", withUpstream("10.0.2:22"), 5, "services[0].upstream", "neither an address nor a host name"},
		{"upstream everywhere", withUpstream("0.0.0.0:22"), 5, "services[0].upstream", "127.0.0.1:22"},
		{"upstream that is a prefix", withUpstream("10.0.2.0/24:22"), 5, "services[0].upstream", `write "original:"`},
		{"original with a bad port", withUpstream("original:x"), 5, "services[0].upstream", "from 1 to 65535"},
		{"upstream in a route", withUpstream("10.77.0.2:22"), 5, "services[0].upstream", "in the route 10.77.0.0/24"},
		{"mapped upstream in a route", withUpstream(`"[::ffff:10.77.0.2]:22"`), 5, "services[0].upstream", "lead back into the device"},
		{"original without a way", withUpstream("original:2222"), 5, "services[0].upstream", "upstream_device: eth1"},

		{"no mode", withService("mode: open"), 5, "services[0].mode", "write auth, knock or knock-auth"},
		{"visible knock", withService("mode: knock, visible: true"), 5, "services[0].visible", "remove it, or write mode: knock-auth"},
		{"visible auth", withService("mode: auth, visible: true"), 5, "services[0].visible", "remove visible"},
		{"invisible alias of a visible mode", withService("mode: knock-auth-only, visible: false"), 5, "services[0].visible", "write mode: knock-auth"},
		{"no methods", withService("knock: []"), 5, "services[0].knock", "remove the key for all five"},
		{"unknown method", withService("knock: [udp, icmp]"), 5, "services[0].knock[1]", "write udp, udp-seq, tcp-syn, tcp-syn-seq or udp-v2"},
		{"method that is no knock", withService("knock: [tcp-auth]"), 5, "services[0].knock[0]", "not a knock method"},
		{"methods in mode auth", withService("mode: auth, knock: [udp]"), 5, "services[0].knock", "remove it, or write mode: knock-auth"},
		{"ttl", withService("grant: {ttl: 0s}"), 5, "services[0].grant.ttl", "from 100ms"},
		{"no uses", withService("grant: {uses: 0}"), 5, "services[0].grant.uses", "from 1 to"},
		{"session", withService("session: maybe"), 5, "services[0].session", "write required or optional"},
		{"no protocols", withService("auth: {protocols: []}"), 5, "services[0].auth.protocols", "name v2, v1 or both"},
		{"unknown protocol", withService("auth: {protocols: [v3]}"), 5, "services[0].auth.protocols[0]", "write v2 or v1"},
		{"hint", withService("auth: {hint: maybe}"), 5, "services[0].auth.hint", "write route-hint or none"},
		{"no buckets", withService("auth: {buckets: []}"), 5, "services[0].auth.buckets", "or remove the key"},
		{"unknown bucket", withService("auth: {buckets: [128, 200]}"), 5, "services[0].auth.buckets[1]", "write 128, 192, 256, 384 or 512"},
		{"bucket of text", withService("auth: {buckets: [small]}"), 5, "services[0].auth.buckets[0]", "must be a whole number"},
		{"deadline", withService("auth: {deadline: 99ms}"), 5, "services[0].auth.deadline", "from 100ms to 1m0s"},
		{"too many trials", manyClients(13, "auth: {hint: none}"), 17, "services[0].auth.hint", "13 clients in 5 buckets would be 65"},
		{"dial timeout", withService("dial_timeout: 0s"), 5, "services[0].dial_timeout", "from 100ms to 1m0s"},

		{"unknown limit", minimal + "limits: {flow: 1}\n", 6, "limits", "did you mean flows?"},
		{"no grants for clients", minimal + "limits: {grants_per_client: 0}\n", 6, "limits.grants_per_client", "from 1 to 65536"},
		{"no flows for clients", minimal + "limits: {flows_per_client: 0}\n", 6, "limits.flows_per_client", "from 1 to 65536"},
		{"no grants for sources", minimal + "limits: {grants_per_source: 0}\n", 6, "limits.grants_per_source", "from 1 to 65536"},
		{"too many flows for sources", minimal + "limits: {flows_per_source: 65537}\n", 6, "limits.flows_per_source", "from 1 to 65536"},
		{"too many flows", minimal + "limits: {flows: 1048577}\n", 6, "limits.flows", "from 1 to 1048576"},
		{"too few knocks", minimal + "limits: {knocks: 63}\n", 6, "limits.knocks", "from 64 to 65536"},
		{"limits without keys", minimal + "limits: 5\n", 6, "limits", "its keys are grants_per_client, flows_per_client"},
		{"ban after less than none", minimal + "ban: {after: -1}\n", 6, "ban.after", "from 0 to 1000"},
		{"ban within no time", minimal + "ban: {within: 0s}\n", 6, "ban.within", "from 1s to 24h0m0s"},
		{"ban for a number", minimal + "ban: {for: 60}\n", 6, "ban.for", "write 60s for seconds"},
		{"ban for ever", minimal + "ban: {for: 721h}\n", 6, "ban.for", "from 1s to 720h0m0s"},
		{"unknown key of a ban", minimal + "ban: {afer: 1}\n", 6, "ban", "did you mean after?"},

		{"long socket", minimal + "control: {socket: /" + strings.Repeat("a", 103) + "}\n", 6, "control.socket", "at most 103; choose a shorter one"},
		{"metrics without address", minimal + `metrics: {listen: ":9091"}`, 6, "metrics.listen", "write it as 127.0.0.1:9091"},
		{"metrics without port", minimal + `metrics: {listen: "127.0.0.1"}`, 6, "metrics.listen", "write it as 127.0.0.1:9091"},
		{"metrics on a name", minimal + `metrics: {listen: "localhost:9091"}`, 6, "metrics.listen", "write it as 127.0.0.1:9091"},
		{"metrics on a protected address", minimal + `metrics: {listen: "10.77.0.9:9091"}`, 6, "metrics.listen", "choose an address of this host"},
	}
}

// manyClients returns a file with n clients, one per line from line 3, followed by
// a service.
func manyClients(n int, keys string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  - {id: c%d, secret: 0123456789abcdef}\n", i)
	}
	return strings.Replace(withService(keys), aliceLine+"\n", b.String(), 1)
}

func TestParseErrors(t *testing.T) {
	names := map[string]bool{}
	for _, m := range errorCases() {
		if names[m.name] {
			t.Errorf("two cases are called %q", m.name)
		}
		names[m.name] = true
		t.Run(m.name, func(t *testing.T) {
			_, err := Parse("test.yaml", []byte(m.text))
			if err == nil {
				t.Fatal("no error")
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			text := err.Error()
			if strings.Count(text, "\n") != 0 {
				t.Errorf("more than one line:\n%s", text)
			}
			if e.Line != m.line || e.Key != m.key || !strings.Contains(e.Msg, m.remedy) {
				t.Errorf("%s\nwant line %d, key %q, %q", text, m.line, m.key, m.remedy)
			}
			for _, leak := range []string{"0123456789abcde", "hunter2", "12345678901234567", "!!!!"} {
				if strings.Contains(text, leak) || strings.Contains(fmt.Sprintf("%+v", errors.Unwrap(err)), leak) {
					t.Errorf("the secret is in the error: %s", text)
				}
			}
		})
	}
}

func TestErrorOneLine(t *testing.T) {
	_, err := Parse("knockgw.yaml", []byte(withListen("10.77.0.1")))
	want := `knockgw.yaml:5: services[0].listen: "10.77.0.1": a port is missing; write it as 10.77.0.1:22`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestParseErrorsSorted(t *testing.T) {
	text := `tun: {routes: [10.77.0.0/24], mtu: 1}
clients:
  - {id: alice, secret: short}
services:
  - {name: ssh, listen: 10.77.0.1, upstream: 10.0.2.2, idle: 5}
  - {name: ssh, listen: "10.77.0.2:1", upstream: "10.0.2.2:1"}
`
	_, err := Parse("test.yaml", []byte(text))
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{"test.yaml:1: tun.mtu", "test.yaml:3: clients[0].secret", "test.yaml:5: services[0].listen",
		"test.yaml:5: services[0].upstream", "test.yaml:5: services[0].idle", "test.yaml:6: services[1].name"}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]+": ") {
			t.Errorf("error %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestParseInsecureSecretFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Parse("test.yaml", []byte(replaceInMinimal("secret: 0123456789abcdef", "secret_file: "+name)))
		var e *Error
		if !errors.As(err, &e) || e.Line != 3 || !strings.Contains(e.Msg, "chmod 600 it") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestCheckOverlapsThousandServices(t *testing.T) {
	var b strings.Builder
	b.WriteString("tun: {routes: [10.0.0.0/8]}\nservices:\n")
	const services = 3000
	for i := range services {
		fmt.Fprintf(&b, "  - {name: s%d, listen: \"10.1.%d.%d:22\", upstream: \"192.0.2.1:22\"}\n", i, i/256, i%256)
	}
	mustParse(t, b.String())
	b.WriteString("  - {name: all, listen: \"10.0.0.0/8:22\", upstream: \"192.0.2.1:22\"}\n")
	_, err := Parse("test.yaml", []byte(b.String()))
	if err == nil || strings.Count(err.Error(), "\n")+1 != services {
		t.Errorf("%d lines", strings.Count(fmt.Sprint(err), "\n")+1)
	}
}

func FuzzParse(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(minimal))
	for _, m := range errorCases() {
		f.Add([]byte(m.text))
	}
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("tun: &t\n  name: *t\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz.yaml", data)
		if err == nil {
			if c == nil || len(c.Services) == 0 {
				t.Fatal("accepted, and nothing to protect")
			}
			c.Table()
			return
		}
		each := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			each = joined.Unwrap()
		}
		for _, err := range each {
			var e *Error
			if !errors.As(err, &e) || strings.Contains(e.Error(), "\n") || e.Msg == "" {
				t.Fatalf("%T %q", err, err)
			}
		}
	})
}
