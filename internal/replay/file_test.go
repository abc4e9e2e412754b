package replay

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/knockgw/knockgw/internal/testclock"
)

// openFile opens a store that the test closes at its end.
func openFile(t testing.TB, dir string, o Options) *FileStore {
	t.Helper()
	s, err := OpenFileStore(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// kill ends the store as the death of its process would: the kernel closes its
// files, nothing else happens.
func kill(s *FileStore) {
	_ = s.closeSegments()
	_ = s.lock.Close()
}

func TestFileStoreSurvivesKill(t *testing.T) {
	dir, clocks := t.TempDir(), testclock.New()
	s := openFile(t, dir, storeOptions(clocks))
	wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
	for restart := range uint64(5) {
		kill(s)
		s = openFile(t, dir, storeOptions(clocks))
		wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrReplayed)
		wantErr(t, claimOne(s, knockClaim("bob", restart)), nil)
	}
	for restart := range uint64(5) {
		wantErr(t, claimOne(s, knockClaim("bob", restart)), ErrReplayed)
	}
}

func TestFileStoreRestartsMonotonicLifetime(t *testing.T) {
	dir, clocks := t.TempDir(), testclock.New()
	s := openFile(t, dir, storeOptions(clocks))
	wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
	kill(s)
	clocks.StepWall(time.Hour) // while it was down: perhaps an hour, perhaps a wrong clock
	s = openFile(t, dir, storeOptions(clocks))
	wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrReplayed)
	clocks.Advance(testLifetime + time.Second)
	wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
}

func TestFileStoreLoadsOutdatedKeysUncounted(t *testing.T) {
	dir, clocks := t.TempDir(), testclock.New()
	opts := storeOptions(clocks)
	opts.MaxKeys, opts.MaxPerClient = 20, 20
	s := openFile(t, dir, opts)
	for n := range uint64(10) {
		wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
	}
	kill(s)
	clocks.StepWall(time.Hour)
	s = openFile(t, dir, opts)
	for n := range uint64(10) {
		wantErr(t, claimOne(s, knockClaim("alice", n)), ErrReplayed)
		wantErr(t, claimOne(s, knockClaim("alice", 100+n)), nil)
	}
}

func TestFileStoreSkipsDamagedRecords(t *testing.T) {
	record := func(n int) int64 { return int64(n+1) * recordSize } // the header is the first
	cases := []struct {
		name   string
		damage func(t *testing.T, name string)
		lost   map[uint64]bool
		log    string
	}{
		{"torn tail", func(t *testing.T, name string) { truncate(t, name, record(4)-1) }, map[uint64]bool{3: true}, "torn_bytes=43"},
		{"cut at a record", func(t *testing.T, name string) { truncate(t, name, record(3)) }, map[uint64]bool{3: true}, ""},
		{"flipped bit", func(t *testing.T, name string) { flip(t, name, record(1)+20) }, map[uint64]bool{1: true}, "corrupt=1"},
		{"flipped bit in the header", func(t *testing.T, name string) { flip(t, name, 3) }, nil, "corrupt=1"},
		{"zeros behind", func(t *testing.T, name string) { truncate(t, name, record(9)) }, nil, ""},
		{"cut within the header", func(t *testing.T, name string) { truncate(t, name, 7) },
			map[uint64]bool{0: true, 1: true, 2: true, 3: true}, "torn_bytes=7"},
		{"empty", func(t *testing.T, name string) { truncate(t, name, 0) },
			map[uint64]bool{0: true, 1: true, 2: true, 3: true}, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir, clocks := t.TempDir(), testclock.New()
			opts := storeOptions(clocks)
			s := openFile(t, dir, opts)
			for n := range uint64(4) {
				wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
			}
			kill(s)
			tc.damage(t, s.name(s.seg))
			var log bytes.Buffer
			opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
			s = openFile(t, dir, opts)
			for n := range uint64(4) {
				want := ErrReplayed
				if tc.lost[n] {
					want = nil
				}
				wantErr(t, claimOne(s, knockClaim("alice", n)), want)
			}
			if !strings.Contains(log.String(), tc.log) || (tc.log == "") != (log.Len() == 0) {
				t.Fatalf("log: %q, want %q in it", log.String(), tc.log)
			}
			kill(s)
			log.Reset()
			openFile(t, dir, opts)
			if log.Len() != 0 {
				t.Fatalf("the damage is still there: %s", log.String())
			}
		})
	}
}

func truncate(t *testing.T, name string, size int64) {
	t.Helper()
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x40
	if err := os.WriteFile(name, b, fileMode); err != nil {
		t.Fatal(err)
	}
}

func TestFileStoreKeepsForeignFile(t *testing.T) {
	for name, header := range map[string][]byte{
		"another format":  bytes.Repeat([]byte("x"), recordSum),
		"another version": append([]byte(segmentMagic), bytes.Repeat([]byte{3}, recordSum-len(segmentMagic))...),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			header = appendSum(header)
			file := filepath.Join(dir, "replay.1")
			if err := os.WriteFile(file, header, fileMode); err != nil {
				t.Fatal(err)
			}
			if s, err := OpenFileStore(dir, Options{}); err == nil {
				_ = s.Close()
				t.Fatal("opened")
			} else if !strings.Contains(err.Error(), file) {
				t.Fatalf("the error names no file: %v", err)
			}
			if got, _ := os.ReadFile(file); !bytes.Equal(got, header) {
				t.Fatal("the file was changed")
			}
		})
	}
}

func TestFileStoreLocksDirectory(t *testing.T) {
	dir := t.TempDir()
	s := openFile(t, dir, Options{})
	if _, err := OpenFileStore(dir, Options{}); !errors.Is(err, errLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openFile(t, dir, Options{})
}

func TestFileStorePermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	dir := filepath.Join(t.TempDir(), "state", "replay")
	s := openFile(t, dir, Options{})
	wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
	for name, want := range map[string]fs.FileMode{".": dirMode, lockName: fileMode, "replay.0": fileMode} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil { // the point
		t.Fatal(err)
	}
	if _, err := OpenFileStore(open, Options{}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Fatalf("a world-writable directory: %v", err)
	}
}

func TestFileStoreRotationBoundsDisk(t *testing.T) {
	dir, clocks := t.TempDir(), testclock.New()
	s := openFile(t, dir, storeOptions(clocks))
	var n uint64
	for range 600 { // ten lifetimes, ten messages a second
		clocks.Advance(time.Second)
		for range 10 {
			n++
			wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
		}
		if size := diskUse(t, dir); size > 2*(reserve+2)*recordSize {
			t.Fatalf("%d bytes on disk after %d claims", size, n)
		}
		if r := s.segs[s.seg].records; r > 64*10 {
			t.Fatalf("%d records in a segment after %d claims", r, n)
		}
	}
	kill(s)
	s = openFile(t, dir, storeOptions(clocks))
	for i := n - 600; i <= n; i++ { // those of the last minute
		wantErr(t, claimOne(s, knockClaim("alice", i)), ErrReplayed)
	}
}

func TestFileStoreRotationKeepsGracedKeys(t *testing.T) {
	dir, clocks := t.TempDir(), testclock.New()
	opts := storeOptions(clocks)
	opts.MaxKeys, opts.MaxPerClient = 100, 100
	s := openFile(t, dir, opts)
	for n := range uint64(40) {
		wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
	}
	clocks.StepWall(-24 * time.Hour)
	bound := int64(2 * (segmentRoom*100 + 40 + 1 + 1) * recordSize)
	for n := range uint64(1500) {
		clocks.Advance(10 * time.Second)
		wantErr(t, claimOne(s, knockClaim("bob", n)), nil)
		if size := diskUse(t, dir); size > bound {
			t.Fatalf("%d bytes on disk, bound %d", size, bound)
		}
		if n%400 == 0 {
			kill(s)
			s = openFile(t, dir, opts)
		}
	}
	kill(s)
	s = openFile(t, dir, opts)
	for n := range uint64(40) {
		wantErr(t, claimOne(s, knockClaim("alice", n)), ErrReplayed)
	}
}

func diskUse(t *testing.T, dir string) (sum int64) {
	t.Helper()
	for _, name := range []string{"replay.0", "replay.1", newName} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			sum += info.Size()
		}
	}
	return sum
}
