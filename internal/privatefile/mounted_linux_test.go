package privatefile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// foreignGroup is one that the test's process is not in.
const foreignGroup = 47110

// onReadOnlyTmpfs runs a test in a mount namespace of its own, with a file of
// root's on a file system that is then mounted read-only.
func onReadOnlyTmpfs(t *testing.T, mode os.FileMode, gid int, test func(path string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mount namespaces")
	}
	done := make(chan struct{})
	go func() { // its thread ends with it, and the namespace with that
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Logf("skipped: unshare: %v", err)
			return
		}
		dir := t.TempDir()
		if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("tmpfs", dir, "tmpfs", 0, "")); err != nil {
			t.Logf("skipped: mount: %v", err)
			return
		}
		path := filepath.Join(dir, "key")
		if err := errors.Join(os.WriteFile(path, []byte("four"), 0o600), os.Chown(path, 0, gid), os.Chmod(path, mode),
			unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
			t.Error(err)
			return
		}
		test(path)
	}()
	<-done
}

func TestReadGroupFileReadOnlyMount(t *testing.T) {
	onReadOnlyTmpfs(t, 0o440, os.Getegid(), func(path string) {
		if got, err := Read(path, 4); err != nil || string(got) != "four" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestReadInsecureReadOnlyMount(t *testing.T) {
	for name, c := range map[string]struct {
		mode os.FileMode
		gid  int
	}{
		"readable by all":                  {0o444, os.Getegid()},
		"writable by the group":            {0o460, os.Getegid()},
		"of a group of other accounts":     {0o440, foreignGroup},
		"executable, which a secret isn't": {0o450, os.Getegid()},
	} {
		t.Run(name, func(t *testing.T) {
			onReadOnlyTmpfs(t, c.mode, c.gid, func(path string) {
				_, err := Read(path, 4)
				var open *AccessError
				if !errors.As(err, &open) || !strings.Contains(err.Error(), "defaultMode: 0400") || strings.Contains(err.Error(), "chmod") {
					t.Errorf("the error is %v", err)
				}
			})
		})
	}
}

func TestReadSystemdCredential(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a file of root's")
	}
	credentials, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv(credentialsVariable, credentials)
	make := func(dir string, mode os.FileMode) string {
		path := filepath.Join(dir, "key")
		if err := errors.Join(os.WriteFile(path, []byte("four"), 0o600), os.Chown(path, 0, foreignGroup), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	inside, outside := make(credentials, 0o440), make(elsewhere, 0o440)
	link := filepath.Join(credentials, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(inside, 4); err != nil {
		t.Error(err)
	}
	for _, path := range []string{outside, link, filepath.Join(credentials, "..", filepath.Base(elsewhere), "key")} {
		if _, err := Read(path, 4); err == nil {
			t.Errorf("%s was read", path)
		}
	}
	if _, err := Read(make(credentials, 0o444), 4); err == nil {
		t.Error("a credential that all can read was read")
	}
}

func TestReadForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a file of another account's")
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, foreignGroup, foreignGroup), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, 4); err == nil || !strings.Contains(err.Error(), "chown") {
		t.Errorf("the error is %v", err)
	}
}
