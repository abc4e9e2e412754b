package config

import (
	"strings"
)

// syntaxErrors are errors in invalid YAML.
func syntaxErrors() []errorCase {
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
	}
}

// keyErrors are errors in unknown and duplicate keys.
func keyErrors() []errorCase {
	return []errorCase{
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
	}
}

// typeErrors are errors in values of the wrong type.
func typeErrors() []errorCase {
	return []errorCase{
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
	}
}

// tunErrors are errors in the section tun.
func tunErrors() []errorCase {
	return []errorCase{
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
	}
}

// knockErrors are errors in the section knock.
func knockErrors() []errorCase {
	return []errorCase{
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
	}
}

// clientErrors are errors in the section clients.
func clientErrors() []errorCase {
	return []errorCase{
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
	}
}
