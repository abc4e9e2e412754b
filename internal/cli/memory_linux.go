package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// availableMemory returns the memory available to the process in bytes: that of
// the machine, or the limit of its control group if that is less; 0 if unknown.
func availableMemory() int64 {
	var total int64
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		total = int64(info.Totalram) * int64(info.Unit)
	}
	group := cgroupMemory("/proc/self/cgroup", "/sys/fs/cgroup")
	if total == 0 || group != 0 && group < total {
		return group
	}
	return total
}

// cgroupMemory returns memory.max of the control group (version 2) that file
// names, below root; 0 if there is none.
func cgroupMemory(file, root string) int64 {
	const unified = "0::"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), unified)
		if !ok {
			continue
		}
		limit, err := os.ReadFile(filepath.Join(root, path, "memory.max"))
		if err != nil {
			return 0
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64)
		if err != nil { // "max"
			return 0
		}
		return n
	}
	return 0
}
