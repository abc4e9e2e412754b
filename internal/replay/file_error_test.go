package replay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/knockgw/knockgw/internal/testclock"
)

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
	opts := storeOptions(testclock.New())
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
	dir, clocks := t.TempDir(), testclock.New()
	opts := storeOptions(clocks)
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
	s = openFile(t, dir, storeOptions(clocks))
	wantErr(t, claimOne(s, knockClaim("alice", 1)), ErrReplayed)
	wantErr(t, claimOne(s, knockClaim("alice", 5)), ErrReplayed)
}

func TestFileStoreRefusesWithoutSegment(t *testing.T) {
	dir, clocks := t.TempDir(), testclock.New()
	opts := storeOptions(clocks)
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
		clocks.Advance(testLifetime + time.Second)
		wantErr(t, claimOne(s, knockClaim("alice", n)), nil)
	}
	clocks.StepWall(-24 * time.Hour) // now the keys of both are held
	var refused int
	for n := range uint64(60) {
		clocks.Advance(testLifetime + time.Second)
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
	clocks.Advance(testLifetime)
	wantErr(t, claimOne(s, knockClaim("alice", 100)), nil)
}

// A file of the previous version is read and replaced.
func TestFileStoreReadsVersion1(t *testing.T) {
	dir, clocks := t.TempDir(), testclock.New()
	s := openFile(t, t.TempDir(), storeOptions(clocks))
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
		s = openFile(t, dir, storeOptions(clocks))
		for _, c := range claims {
			wantErr(t, claimOne(s, c), ErrReplayed)
		}
		kill(s)
	}
}

// A key is a replay only if it was granted before: a failing disk makes no
// replays.
func TestFileStoreReportsReplayOnlyOfGrantedKeys(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		var writes int
		var fail bool
		clocks := testclock.New()
		opts := storeOptions(clocks)
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

// smallDisk is a segment on a disk that may be full: only what has blocks can
// be written.
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
	dir, clocks := t.TempDir(), testclock.New()
	opts := storeOptions(clocks)
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
		clocks.Advance(testLifetime / 2)
		if err := s.Writable(); err != nil {
			t.Fatal("a store that records is not writable: ", err)
		}
		kill(s)
		s = openFile(t, dir, opts)
		wantErr(t, claimOne(s, knockClaim("alice", n)), ErrReplayed)
	}

	const knockBatch = 16 // the gate's
	// More than was reserved: the store refuses until its keys expire.
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
		clocks.Advance(testLifetime + time.Second)
		for range 2 * reserve / expireFloor {
			s.Claim(nil)
		}
	}
	wantErr(t, claimOne(s, knockClaim("alice", n+2)), nil)
	wantErr(t, s.Writable(), nil)
}
