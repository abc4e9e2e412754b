package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
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

// kill ends the store as the death of its process would: the kernel closes its files, nothing else happens.
func kill(s *FileStore) {
	_ = s.closeSegments()
	_ = s.lock.Close()
}

func TestFileStoreSurvivesKill(t *testing.T) {
	dir, clocks := t.TempDir(), newTestClocks()
	s := openFile(t, dir, clocks.options())
	wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
	for restart := range uint64(5) {
		kill(s)
		s = openFile(t, dir, clocks.options())
		wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrReplayed)
		wantErr(t, claimOne(s, knockClaim("bob", restart)), nil)
	}
	for restart := range uint64(5) {
		wantErr(t, claimOne(s, knockClaim("bob", restart)), ErrReplayed)
	}
}

func TestFileStoreRestartsMonotonicLifetime(t *testing.T) {
	dir, clocks := t.TempDir(), newTestClocks()
	s := openFile(t, dir, clocks.options())
	wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
	kill(s)
	clocks.step(time.Hour) // while it was down: perhaps an hour, perhaps a wrong clock
	s = openFile(t, dir, clocks.options())
	wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrReplayed)
	clocks.pass(testLifetime + time.Second)
	wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
}

func TestFileStoreLoadsOutdatedKeysUncounted(t *testing.T) {
	dir, clocks := t.TempDir(), newTestClocks()
	opts := clocks.options()
	opts.MaxKeys, opts.MaxPerClient = 20, 20
	s := openFile(t, dir, opts)
	for n := range uint64(10) {
		wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
	}
	kill(s)
	clocks.step(time.Hour)
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
			dir, clocks := t.TempDir(), newTestClocks()
			opts := clocks.options()
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
		t.Fatalf("a directory that everybody may write: %v", err)
	}
}

func TestFileStoreRotationBoundsDisk(t *testing.T) {
	dir, clocks := t.TempDir(), newTestClocks()
	s := openFile(t, dir, clocks.options())
	var n uint64
	for range 600 { // ten lifetimes, ten messages a second
		clocks.pass(time.Second)
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
	s = openFile(t, dir, clocks.options())
	for i := n - 600; i <= n; i++ { // those of the last minute
		wantErr(t, claimOne(s, knockClaim("alice", i)), ErrReplayed)
	}
}

func TestFileStoreRotationKeepsGracedKeys(t *testing.T) {
	dir, clocks := t.TempDir(), newTestClocks()
	opts := clocks.options()
	opts.MaxKeys, opts.MaxPerClient = 100, 100
	s := openFile(t, dir, opts)
	for n := range uint64(40) {
		wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
	}
	clocks.step(-24 * time.Hour)
	bound := int64(2 * (segmentRoom*100 + 40 + 1 + 1) * recordSize)
	for n := range uint64(1500) {
		clocks.pass(10 * time.Second)
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

// faultyFile counts writes and fails on demand, after writing a part.
type faultyFile struct {
	segmentFile
	writes *int
	fail   *bool
}

var errFault = errors.New("no space left")

func (f faultyFile) WriteAt(b []byte, off int64) (int, error) {
	*f.writes++
	if *f.fail {
		n, _ := f.segmentFile.WriteAt(b[:len(b)/2], off)
		return n, errFault
	}
	return f.segmentFile.WriteAt(b, off)
}

func TestFileStoreWritesOncePerBatch(t *testing.T) {
	var writes int
	var fail bool
	opts := newTestClocks().options()
	opts.open = func(name string) (segmentFile, error) {
		f, err := openSegment(name)
		return faultyFile{f, &writes, &fail}, err
	}
	s := openFile(t, t.TempDir(), opts)
	batch := make([]Claim, 50)
	for i := range batch {
		batch[i] = knockClaim("alice", uint64(i))
	}
	s.Claim(batch)
	if writes != 1 {
		t.Fatalf("%d writes for a batch, want 1", writes)
	}
	s.Claim(batch)
	if writes != 1 {
		t.Fatalf("%d writes for replays, want none", writes-1)
	}
}

func TestFileStoreWriteErrorKeepsKeyMarked(t *testing.T) {
	var writes int
	var fail bool
	dir, clocks := t.TempDir(), newTestClocks()
	opts := clocks.options()
	opts.open = func(name string) (segmentFile, error) {
		f, err := openSegment(name)
		return faultyFile{f, &writes, &fail}, err
	}
	s := openFile(t, dir, opts)
	wantErr(t, claimOne(s, knockClaim("alice", 1)), nil)
	fail = true
	batch := []Claim{knockClaim("alice", 1), knockClaim("alice", 2), knockClaim("alice", 3), knockClaim("alice", 4)}
	s.Claim(batch)
	wantErr(t, batch[0].Err, ErrReplayed)
	for _, c := range batch[1:] {
		wantErr(t, c.Err, errFault)
	}
	fail = false
	wantErr(t, claimOne(s, knockClaim("alice", 2)), ErrUnrecorded)
	wantErr(t, claimOne(s, knockClaim("alice", 5)), nil)
	kill(s)
	s = openFile(t, dir, clocks.options())
	wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrReplayed)
	wantErr(t, claimOne(s, knockClaim("alice", 5)), ErrReplayed)
}

func TestFileStoreRefusesWithoutSegment(t *testing.T) {
	dir, clocks := t.TempDir(), newTestClocks()
	opts := clocks.options()
	opts.MaxKeys, opts.MaxPerClient = 10, 10
	var broken bool
	opts.open = func(name string) (segmentFile, error) {
		if broken {
			return nil, errFault
		}
		return openSegment(name)
	}
	s := openFile(t, dir, opts)
	broken = true
	for n := range uint64(10 * segmentRoom * 10) { // both segments are used again, many times
		clocks.pass(testLifetime + time.Second)
		wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
	}
	clocks.step(-24 * time.Hour) // now the keys of both are held
	var refused int
	for n := range uint64(60) {
		clocks.pass(testLifetime + time.Second)
		err := claimOne(s, knockClaim("alice", 1000+n))
		if errors.Is(err, errFault) && errors.Is(err, ErrUnrecorded) {
			refused++
		} else {
			wantErr(t, err, nil)
		}
	}
	if refused < 60-2*segmentRoom*10 {
		t.Fatalf("only %d claims refused", refused)
	}
	broken = false
	clocks.pass(testLifetime)
	wantErr(t, claimOne(s, knockClaim("alice", 100)), nil)
}

// A file of the version before is read, and replaced by one of this.
func TestFileStoreReadsVersion1(t *testing.T) {
	dir, clocks := t.TempDir(), newTestClocks()
	s := openFile(t, t.TempDir(), clocks.options())
	claims := []Claim{knockClaim("alice", 1), knockClaim("bob", 2)}
	for i := range claims {
		e, err := s.keys.claim(&claims[i], s.opts.instant(), 0)
		if err != nil {
			t.Fatal(err)
		}
		header := append([]byte(segmentMagic), 0, 0, 0, 1)
		header = appendSum(append(header, make([]byte, recordSizeV1-4-len(header))...))
		record := appendRecord(nil, e, 0)[:recordSizeV1-4]
		name := filepath.Join(dir, fmt.Sprintf("replay.%d", i))
		if err := os.WriteFile(name, append(header, appendSum(record)...), fileMode); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		s = openFile(t, dir, clocks.options())
		for _, c := range claims {
			wantErr(t, claimOne(s, c), ErrReplayed)
		}
		kill(s)
	}
}

// A key is a replay only if it was given before: a disk that fails makes no replays.
func TestFileStoreReportsReplayOnlyOfGrantedKeys(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		var writes int
		var fail bool
		clocks := newTestClocks()
		opts := clocks.options()
		opts.open = func(name string) (segmentFile, error) {
			f, err := openSegment(name)
			return faultyFile{f, &writes, &fail}, err
		}
		sub, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenFileStore(sub, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		given := make(map[byte]bool)
		for range rapid.IntRange(1, 20).Draw(t, "batches") {
			fail = rapid.Bool().Draw(t, "disk full")
			keys := rapid.SliceOfN(rapid.ByteRange(0, 9), 1, 4).Draw(t, "keys")
			var batch []Claim
			for _, n := range keys {
				batch = append(batch, knockClaim("alice", uint64(n)))
			}
			s.Claim(batch)
			for i, n := range keys {
				if err := batch[i].Err; errors.Is(err, ErrReplayed) != given[n] || (err == nil) && given[n] {
					t.Fatalf("key %d, given before: %v: %v", n, given[n], err)
				}
				given[n] = given[n] || batch[i].Err == nil
			}
		}
	})
}

// smallDisk is a segment on a disk that may be full: only what has blocks can be written.
type smallDisk struct {
	segmentFile
	name string
	full *bool
}

func (f smallDisk) allocate(off, n int64) error {
	if *f.full {
		return errFault
	}
	return f.segmentFile.allocate(off, n)
}

func (f smallDisk) WriteAt(b []byte, off int64) (int, error) {
	if info, err := os.Stat(f.name); *f.full && (err != nil || off+int64(len(b)) > info.Size()) {
		return 0, errFault
	}
	return f.segmentFile.WriteAt(b, off)
}

func TestFileStoreRunsOnFullDisk(t *testing.T) {
	var full bool
	dir, clocks := t.TempDir(), newTestClocks()
	opts := clocks.options()
	opts.open = func(name string) (segmentFile, error) {
		f, err := openSegment(name)
		return smallDisk{f, name, &full}, err
	}
	s := openFile(t, dir, opts)
	full = true
	var n uint64
	for range 20 { // lifetimes
		for range 200 {
			n++
			wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
		}
		clocks.pass(testLifetime / 2)
		if err := s.Writable(); err != nil {
			t.Fatal("a store that records is not writable: ", err)
		}
		kill(s)
		s = openFile(t, dir, opts)
		wantErr(t, claimOne(s, knockClaim("alice", n)), ErrReplayed)
	}

	const knockBatch = 16 // the gate's
	// More than was reserved: then, and only until its keys are over, it refuses.
	var batch []Claim
	for range 2*reserve + 1000 {
		n++
		batch = append(batch, knockClaim(fmt.Sprint(n%8), n))
	}
	for ; len(batch) > 0; batch = batch[min(len(batch), knockBatch):] {
		s.Claim(batch[:min(len(batch), knockBatch)])
	}
	var err error
	for range knockBatch { // what is left is less than a batch
		n++
		err = claimOne(s, knockClaim("alice", n))
	}
	wantErr(t, err, ErrUnrecorded)
	wantErr(t, s.Writable(), errFault)
	for range 4 {
		clocks.pass(testLifetime + time.Second)
		for range 2 * reserve / expireFloor {
			s.Claim(nil)
		}
	}
	wantErr(t, claimOne(s, knockClaim("alice", n+2)), nil)
	wantErr(t, s.Writable(), nil)
}
