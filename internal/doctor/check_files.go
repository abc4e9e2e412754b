package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// checkFiles checks that the account can read and write the gateway's files.
func checkFiles(_ context.Context, c *checker) {
	if c.host.File == nil {
		c.skipped()
		return
	}
	if c.File != "" && checkReadable(c.named("configuration"), c.File) {
		checkLoadable(c.named("secrets"))
	}
	if dir := c.Config.ClientsDir; dir != "" {
		checkClientsDir(c.named("clients_dir"), dir)
	}

	state := c.named("state.dir")
	if dir := c.Config.State.Dir; dir == "" {
		state.report(Warn, "write state: {dir: /var/lib/knockgw}", "not set: a captured knock works again after a restart, within knock.window")
	} else if checkWritableDir(state, dir) {
		checkContents(state, dir)
	}
	if socket := c.Config.Control.Socket; socket != "" {
		checkWritableDir(c.named("control.socket"), filepath.Dir(socket))
	}
	if file := c.Config.Audit.File; file != "" {
		audit := c.named("audit.file")
		if _, err := c.host.File(file); err == nil {
			checkWritableFile(audit, file)
		}
		checkWritableDir(audit, filepath.Dir(file))
	}
}

// checkReadable checks that the account can read a path, as a reload does.
func checkReadable(c *checker, path string) bool {
	f, err := c.host.File(path)
	if err != nil {
		c.report(Fail, "correct the path", "%v", err)
		return false
	}
	want := fs.FileMode(mayRead)
	if f.Mode.IsDir() {
		want |= mayEnter
	}
	ok, err := c.may(path, want)
	if err != nil {
		c.failed(err)
		return false
	}
	if !ok {
		c.report(Fail, c.accessFix(path), "%s cannot be read by %s (mode %04o), which run rejects", path, c.Account.Name, f.Mode.Perm())
		return false
	}
	c.ok("%s can be read by %s", path, c.Account.Name)
	return true
}

// checkLoadable checks that the account can load the configuration with all the
// files that it names, such as those of secrets.
func checkLoadable(c *checker) {
	if c.Load == nil {
		return
	}
	load := c.Load
	if c.RunAs != nil {
		load = func() error { return c.RunAs(c.Load) }
	}
	if err := load(); err != nil {
		c.report(Fail, "chown "+termsafe.Shell(c.Account.Name)+" FILE # each that is named", "%s cannot load the configuration: %s",
			c.Account.Name, singleLine(err))
		return
	}
	c.ok("all files that the configuration names can be read by %s", c.Account.Name)
}

// singleLine joins the lines of an error.
func singleLine(err error) string {
	return strings.Join(strings.Split(strings.TrimSpace(err.Error()), "\n"), "; ")
}

// checkClientsDir checks clients_dir. If it does not exist, it has no clients,
// and the first one creates it.
func checkClientsDir(c *checker, dir string) {
	if _, err := c.host.File(dir); errors.Is(err, fs.ErrNotExist) {
		c.report(Warn, "knockgw client add NAME # which makes it, or correct the path", "there is no directory %s yet, and no client in it", dir)
		return
	}
	checkReadable(c, dir)
}

// checkContents checks that the account can write the files that an earlier run
// has left in a directory. It stops at the first that it cannot.
func checkContents(c *checker, dir string) {
	if c.host.ReadDir == nil {
		return
	}
	files, err := c.host.ReadDir(dir)
	if err != nil {
		return // the gateway creates the directory
	}
	for _, file := range files {
		if !checkWritableFile(c, file) {
			return
		}
	}
}

// checkWritableFile checks that the account can write an existing file.
func checkWritableFile(c *checker, file string) bool {
	ok, err := c.may(file, mayRead|mayWrite)
	switch {
	case err != nil:
		c.failed(err)
	case !ok:
		c.report(Fail, "chown "+termsafe.Shell(c.Account.Name)+" "+termsafe.Shell(file), "%s exists and cannot be written by %s", file, c.Account.Name)
	}
	return ok
}

// checkWritableDir checks that the account can create files in a directory, or
// the directory itself.
func checkWritableDir(c *checker, dir string) bool {
	existing, f, err := c.existingParent(dir)
	fix := fmt.Sprintf("install -d -m 0750 -o %s %s", termsafe.Shell(c.Account.Name), termsafe.Shell(dir))
	if unreadable := c.unreadableDir(existing); err == nil && unreadable != "" {
		fix = "chmod o+x " + termsafe.Shell(unreadable)
	}
	ok := false
	if err == nil && f.Mode.IsDir() {
		ok, err = c.may(existing, mayWrite|mayEnter)
	}

	switch {
	case err != nil:
		c.report(Fail, fix, "%v", err)
	case !f.Mode.IsDir():
		c.report(Fail, "remove it, or choose another directory", "%s is not a directory", existing)
	case !ok:
		c.report(Fail, fix, "%s cannot be written by %s", existing, c.Account.Name)
	case existing != dir:
		c.ok("%s will be created in %s", dir, existing)
	default:
		c.ok("%s can be written by %s", dir, c.Account.Name)
	}
	return ok
}

// existingParent returns dir, or the closest directory above it that exists.
func (c *checker) existingParent(dir string) (string, File, error) {
	f, err := c.host.File(dir)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
		f, err = c.host.File(dir)
	}
	return dir, f, err
}
