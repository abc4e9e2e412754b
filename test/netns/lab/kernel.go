//go:build linux

package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// NetlinkSockets is how many sockets to its kernel the process has.
func (p *Process) NetlinkSockets() int {
	p.tb.Helper()
	inode := make(map[string]bool) // of all such sockets in the process's network
	const field = 9                // "Inode", the last
	for line := range bytes.Lines(p.proc("net/netlink")) {
		if f := bytes.Fields(line); len(f) > field {
			inode["socket:["+string(f[field])+"]"] = true
		}
	}
	n := 0
	for _, fd := range p.descriptors("fd") {
		// One may be closed in the meantime.
		if to, err := os.Readlink(fd); err == nil && inode[to] {
			n++
		}
	}
	return n
}

// descriptors are the paths of what the kernel tells about each of the
// process's descriptors.
func (p *Process) descriptors(what string) []string {
	p.tb.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/%s/*", p.PID(), what))
	if err != nil {
		p.tb.Fatal(err)
	}
	return all
}

// Tables is how much there is in the eBPF tables that the process has open: how
// many tables, and how many words in them that are not 0, a key of a trie
// counting as one. Words of counters are left out.
func (p *Process) Tables() (tables, words int) {
	p.tb.Helper()
	for _, file := range p.descriptors("fdinfo") {
		id, ok := tableID(file)
		if !ok {
			continue
		}
		tables++
		n, err := entries(id)
		if err != nil {
			p.tb.Fatalf("read an eBPF table of %v: %v", p.Args(), err)
		}
		words += n
	}
	return tables, words
}

// tableID is the kernel's number of the eBPF table that a descriptor is, if it
// is one.
func tableID(fdinfo string) (id ebpf.MapID, ok bool) {
	f, err := os.Open(fdinfo)
	if err != nil {
		return 0, false // closed in the meantime
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), "map_id:"); found {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			return ebpf.MapID(n), err == nil
		}
	}
	return 0, false
}

// entries counts what is in a table.
func entries(id ebpf.MapID) (n int, err error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if m.Type() == ebpf.PerCPUArray {
		return 0, nil
	}

	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	all := m.Iterate()
	for all.Next(&key, &value) {
		if m.Type() != ebpf.Array {
			n++
			continue
		}
		const word = 8
		for w := value; len(w) >= word; w = w[word:] {
			if !bytes.Equal(w[:word], make([]byte, word)) {
				n++
			}
		}
	}
	return n, all.Err()
}

// Ways is how many routes and rules the host's kernel has, of both families and
// over all tables.
func (h *Host) Ways() int {
	h.tb.Helper()
	n := 0
	for _, family := range []string{"-4", "-6"} {
		for _, args := range [][]string{{family, "route", "show", "table", "all"}, {family, "rule", "show"}} {
			n += strings.Count(h.MustRun("ip", args...), "\n")
		}
	}
	return n
}
