package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// What the gateway reads and writes, and whether the account that it runs as may.

func (e *examination) files(context.Context) {
	if e.host.File == nil {
		e.unchecked("files")
		return
	}
	if e.File != "" {
		e.readable("configuration", e.File)
	}
	if dir := e.Config.ClientsDir; dir != "" {
		e.readable("clients_dir", dir)
	}
	if dir := e.Config.State.Dir; dir != "" {
		e.writable("state.dir", dir)
	} else {
		e.bad(Warn, "state.dir", "write state: {dir: /var/lib/knockgw}", "not set: a captured knock works again after a restart, within knock.window")
	}
	if socket := e.Config.Control.Socket; socket != "" {
		e.writable("control.socket", filepath.Dir(socket))
	}
	if file := e.Config.Audit.File; file != "" {
		e.writable("audit.file", filepath.Dir(file))
	}
}

// readable: a reload reads it again, as the account.
func (e *examination) readable(check, path string) {
	f, err := e.host.File(path)
	if err != nil {
		e.bad(Fail, check, "correct the path", "%v", err)
		return
	}
	want := fs.FileMode(mayRead)
	if f.Mode.IsDir() {
		want |= mayEnter
	}
	if !e.Account.may(f, want) {
		e.bad(Warn, check, fmt.Sprintf("chown %s %s", e.Account.Name, path), "%s cannot be read by %s, so that a reload fails (mode %04o)", path, e.Account.Name, f.Mode.Perm())
		return
	}
	e.ok(check, "%s can be read by %s", path, e.Account.Name)
}

// writable: a directory that is missing is made, where its parent may be written.
func (e *examination) writable(check, dir string) {
	f, err := e.host.File(dir)
	at := dir
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(at) != at {
		at = filepath.Dir(at)
		f, err = e.host.File(at)
	}
	mend := fmt.Sprintf("install -d -m 0750 -o %s %s", e.Account.Name, dir)
	switch {
	case err != nil:
		e.bad(Fail, check, mend, "%v", err)
	case !f.Mode.IsDir():
		e.bad(Fail, check, "remove it, or choose another directory", "%s is no directory", at)
	case !e.Account.may(f, mayWrite|mayEnter):
		e.bad(Fail, check, mend, "%s cannot be written by %s", at, e.Account.Name)
	case at != dir:
		e.ok(check, "%s will be made in %s", dir, at)
	default:
		e.ok(check, "%s can be written by %s", dir, e.Account.Name)
	}
}
