package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/knockgw/knockgw/internal/termsafe"
)

// What the gateway reads and writes, and whether the account that it runs as may.

func (e *examination) files(context.Context) {
	if e.host.File == nil {
		e.unchecked("files")
		return
	}
	if e.File != "" && e.readable("configuration", e.File) {
		e.loadable()
	}
	if dir := e.Config.ClientsDir; dir != "" {
		e.clientsDir(dir)
	}
	if dir := e.Config.State.Dir; dir != "" {
		if e.writable("state.dir", dir) {
			e.own("state.dir", dir)
		}
	} else {
		e.bad(Warn, "state.dir", "write state: {dir: /var/lib/knockgw}", "not set: a captured knock works again after a restart, within knock.window")
	}
	if socket := e.Config.Control.Socket; socket != "" {
		e.writable("control.socket", filepath.Dir(socket))
	}
	if file := e.Config.Audit.File; file != "" {
		if _, err := e.host.File(file); err == nil {
			e.changeable("audit.file", file)
		}
		e.writable("audit.file", filepath.Dir(file))
	}
}

// may tells whether the account has all of want with a path: what stands on the way
// to it counts, too.
func (e *examination) may(path string, want fs.FileMode) (bool, error) {
	if e.As != nil && e.host.Access != nil {
		err := e.As(func() error { return e.host.Access(path, want) })
		if errors.Is(err, fs.ErrPermission) {
			return false, nil
		}
		return err == nil, err
	}
	f, err := e.host.File(path)
	if err != nil || !e.Account.may(f, want) {
		return false, err
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if f, err := e.host.File(dir); err == nil && !e.Account.may(f, mayEnter) {
			return false, nil
		}
		if filepath.Dir(dir) == dir {
			return true, nil
		}
	}
}

// closed is the directory on the way to a path that the account cannot enter; "" for none.
func (e *examination) closed(path string) string {
	found := ""
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if ok, err := e.may(dir, mayEnter); !ok && err == nil {
			found = dir
		}
		if filepath.Dir(dir) == dir {
			return found
		}
	}
}

// give is the command that lets the account have a path.
func (e *examination) give(path string) string {
	if dir := e.closed(path); dir != "" {
		return "chmod o+x " + termsafe.Shell(dir)
	}
	return fmt.Sprintf("chown %s %s", termsafe.Shell(e.Account.Name), termsafe.Shell(path))
}

// clientsDir: one that is not there has no clients, and is made for the first.
func (e *examination) clientsDir(dir string) {
	const check = "clients_dir"
	if _, err := e.host.File(dir); errors.Is(err, fs.ErrNotExist) {
		e.bad(Warn, check, "knockgw client add NAME # which makes it, or correct the path", "there is no directory %s yet, and no client in it", dir)
		return
	}
	e.readable(check, dir)
}

// readable: a reload reads it again, as the account.
func (e *examination) readable(check, path string) bool {
	f, err := e.host.File(path)
	if err != nil {
		e.bad(Fail, check, "correct the path", "%v", err)
		return false
	}
	want := fs.FileMode(mayRead)
	if f.Mode.IsDir() {
		want |= mayEnter
	}
	ok, err := e.may(path, want)
	if err != nil {
		e.unknown(check, err)
		return false
	}
	if !ok {
		e.bad(Fail, check, e.give(path), "%s cannot be read by %s (mode %04o), which run refuses", path, e.Account.Name, f.Mode.Perm())
		return false
	}
	e.ok(check, "%s can be read by %s", path, e.Account.Name)
	return true
}

// loadable: all that the configuration names, the files of secrets above all.
func (e *examination) loadable() {
	const check = "secrets"
	if e.Load == nil {
		return
	}
	load := e.Load
	if e.As != nil {
		load = func() error { return e.As(e.Load) }
	}
	if err := load(); err != nil {
		e.bad(Fail, check, "chown "+termsafe.Shell(e.Account.Name)+" FILE # each that is named", "%s cannot load the configuration: %s", e.Account.Name, joinedLines(err))
		return
	}
	e.ok(check, "all files that the configuration names can be read by %s", e.Account.Name)
}

// own: what an earlier run has left in a directory must be the account's, too.
func (e *examination) own(check, dir string) {
	if e.host.Within == nil {
		return
	}
	files, err := e.host.Within(dir)
	if err != nil {
		return // it will be made
	}
	for _, file := range files {
		if !e.changeable(check, file) {
			return
		}
	}
}

// changeable: a file that is there, and is to be written.
func (e *examination) changeable(check, file string) bool {
	ok, err := e.may(file, mayRead|mayWrite)
	switch {
	case err != nil:
		e.unknown(check, err)
	case !ok:
		e.bad(Fail, check, "chown "+termsafe.Shell(e.Account.Name)+" "+termsafe.Shell(file), "%s is there, and cannot be written by %s", file, e.Account.Name)
	}
	return ok
}

// writable: a directory that is missing is made, where its parent may be written.
func (e *examination) writable(check, dir string) bool {
	f, err := e.host.File(dir)
	at := dir
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(at) != at {
		at = filepath.Dir(at)
		f, err = e.host.File(at)
	}
	mend := fmt.Sprintf("install -d -m 0750 -o %s %s", termsafe.Shell(e.Account.Name), termsafe.Shell(dir))
	if closed := e.closed(at); err == nil && closed != "" {
		mend = "chmod o+x " + termsafe.Shell(closed)
	}
	ok := false
	if err == nil && f.Mode.IsDir() {
		ok, err = e.may(at, mayWrite|mayEnter)
	}
	switch {
	case err != nil:
		e.bad(Fail, check, mend, "%v", err)
	case !f.Mode.IsDir():
		e.bad(Fail, check, "remove it, or choose another directory", "%s is no directory", at)
	case !ok:
		e.bad(Fail, check, mend, "%s cannot be written by %s", at, e.Account.Name)
	case at != dir:
		e.ok(check, "%s will be made in %s", dir, at)
	default:
		e.ok(check, "%s can be written by %s", dir, e.Account.Name)
	}
	return ok
}
