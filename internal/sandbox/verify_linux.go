package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// threads has a directory for each thread of this process.
const threads = "/proc/self/task"

// verify checks that every thread has given up its privileges. Without /proc it
// checks nothing.
func verify(o Options) error {
	a := o.Account
	want := map[string]string{
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none,
		"NoNewPrivs": "1",
	}
	if o.KeepRoutes {
		want["CapPrm"], want["CapEff"] = netAdmin, netAdmin
	}
	if Filters() && !o.KeepRoutes { // with KeepRoutes the filter is installed later
		want["Seccomp"] = "2" // SECCOMP_MODE_FILTER
	}
	if a != nil {
		uid, gid := strconv.Itoa(a.UID), strconv.Itoa(a.GID)
		want["Uid"] = strings.Join([]string{uid, uid, uid, uid}, "\t") // real, effective, saved, file system
		want["Gid"] = strings.Join([]string{gid, gid, gid, gid}, "\t")
	}

	entries, err := os.ReadDir(threads)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := verifyThread(filepath.Join(threads, e.Name(), "status"), want); err != nil {
			return err
		}
	}
	return nil
}

// none is a set without capabilities in the syntax of /proc.
const none = "0000000000000000"

// netAdmin is the set with CAP_NET_ADMIN only, which has the number 12.
const netAdmin = "0000000000001000"

func verifyThread(path string, want map[string]string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the thread has ended
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":\t")
		if w, ok := want[key]; ok && value != w {
			return fmt.Errorf("after giving up privileges, %s has %s %q instead of %q", path, key, value, w)
		}
	}
	return lines.Err()
}
