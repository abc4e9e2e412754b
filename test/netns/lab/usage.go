//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tick is the unit of times in /proc: USER_HZ is 100 on every architecture
	// that Go has.
	tick = 10 * time.Millisecond
	// kibibyte is the unit of sizes in /proc.
	kibibyte = 1 << 10
	// The fields of /proc/PID/stat that count from the process's state, which
	// is the first after its name.
	statUser, statSystem = 11, 12
)

// CPU is how much processor time the process has taken so far, in user and in
// kernel mode.
func (p *Process) CPU() time.Duration {
	p.tb.Helper()
	// The CPU clock of another process (clock_getcpuclockid(3)): /proc counts
	// in units of 10 ms.
	const scheduler = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.PID()<<3|scheduler), &t); err != nil {
		p.tb.Fatalf("read the processor time of %v: %v", p.Args(), err)
	}
	return time.Duration(t.Nano())
}

// Times is CPU in its two parts, of all threads, also those that have ended.
// They are counted in units of 10 ms.
func (p *Process) Times() (user, system time.Duration) {
	p.tb.Helper()
	b := p.proc("stat")
	// The name is in brackets and may have anything in it.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	read := func(n int) time.Duration {
		if n >= len(fields) {
			p.tb.Fatalf("read the processor times of %v: %q has too few fields", p.Args(), b)
		}
		ticks, err := strconv.ParseInt(string(fields[n]), 10, 64)
		if err != nil {
			p.tb.Fatalf("read the processor times of %v: %v", p.Args(), err)
		}
		return time.Duration(ticks) * tick
	}
	return read(statUser), read(statSystem)
}

// Memory is what a process has in memory, in bytes.
type Memory struct {
	Resident     int // VmRSS
	Anonymous    int // RssAnon: without the pages of files, which are shared and can be read again
	Proportional int // Pss: of pages that several processes have, its share
}

// Memory is what the process has in memory now.
func (p *Process) Memory() Memory {
	p.tb.Helper()
	status := p.proc("status")
	return Memory{
		Resident:     p.size(status, "VmRSS"),
		Anonymous:    p.size(status, "RssAnon"),
		Proportional: p.size(p.proc("smaps_rollup"), "Pss"),
	}
}

// Descriptors is how many files and sockets the process has open.
func (p *Process) Descriptors() int {
	p.tb.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	if err != nil {
		p.tb.Fatalf("list the descriptors of %v: %v", p.Args(), err)
	}
	return len(all)
}

// size finds a size by its name in one of the files of /proc that have a line
// for each.
func (p *Process) size(text []byte, name string) int {
	p.tb.Helper()
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		if string(key) != name {
			continue
		}
		n, err := strconv.Atoi(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))))
		if err != nil {
			p.tb.Fatalf("read %s of %v: %v", name, p.Args(), err)
		}
		return n * kibibyte
	}
	p.tb.Fatalf("the kernel tells no %s of %v", name, p.Args())
	return 0
}

// proc is what the kernel tells about the process in one of its files.
func (p *Process) proc(name string) []byte {
	p.tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID(), name))
	if err != nil {
		p.tb.Fatalf("read about %v: %v", p.Args(), err)
	}
	return b
}

// Threads is how many threads the process has.
func (p *Process) Threads() int {
	p.tb.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID()))
	if err != nil {
		p.tb.Fatalf("list the threads of %v: %v", p.Args(), err)
	}
	return len(all)
}
