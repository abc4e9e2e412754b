package replay

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/knockgw/knockgw/internal/testclock"
)

// smallTmpfs is a directory of its own file system of so many bytes.
func smallTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		t.Skipf("a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillUp leaves nothing free in the file system of dir.
func fillUp(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}

func TestFileStoreRunsOnFullFileSystem(t *testing.T) {
	for size, claims := range map[string]uint64{"16M": 10_000, "1M": 100} {
		dir, clocks := smallTmpfs(t, size), testclock.New()
		s := openFile(t, dir, storeOptions(clocks))
		fillUp(t, dir)
		for n := range claims {
			wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
		}
		wantErr(t, s.Writable(), nil)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openFile(t, dir, storeOptions(clocks))
		for n := range claims {
			wantErr(t, claimOne(s, knockClaim("alice", n)), ErrReplayed)
		}
		wantErr(t, claimOne(s, knockClaim("alice", claims)), nil)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
