package admission

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/knockgw/knockgw/internal/sample"
)

const (
	lockName    = "replay.lock"
	newName     = "replay.new" // a segment until it is complete and renamed
	fileMode    = 0o600        // who claimed what, and when, is nobody else's business
	dirMode     = 0o700
	worldWrites = 0o002 // whoever may remove the files may replay the messages

	// segmentRoom is how many records a segment takes besides those it began with, in multiples of
	// MaxKeys. Ordinarily a segment ends by age, with as many records as messages came in one
	// lifetime; the bound is met only when a clock that was set back keeps old keys alive. With 2,
	// the disk holds 2 segments of 2 MaxKeys records, 160 MB at the defaults, and what lingers.
	segmentRoom = 2

	// maxLoaded bounds, in multiples of MaxKeys, the keys that opening keeps although the wall clock
	// says they are over: two segments' worth.
	maxLoaded = 2 * segmentRoom

	// rotateRetry is how long a rotation that failed, and is not urgent, waits for its next attempt.
	rotateRetry = time.Second
)

var errLocked = errors.New("in use by another process")

// FileStore is a Store that outlives its process. The truth is in memory; every batch is also appended
// to a file with one write(2) before it is answered, which survives the death of the process at any
// moment. It is not synced to the disk: a power cut may take the last seconds with it.
//
//	dir/replay.lock    held for as long as the store is open
//	dir/replay.0, .1   the segment being written and the one before it, in either order
//	dir/replay.new     the next segment, while it is being made
//
// When the segment being written is older than the longest lifetime, every key of the other is over: a
// new one replaces it. Should keys in the other still be held (the wall clock was set back), rotation
// waits until the segment being written is full, and the new one begins with them.
type FileStore struct {
	dir   string
	opts  StoreOptions
	lock  *os.File
	lines sample.Lines // about segments that cannot be begun

	bounds atomic.Pointer[[]Bound] // as they were last told

	mu      sync.Mutex
	keys    *replayKeys
	out     segmentFile // nil once closed
	seg     uint8       // the one being written
	records int64       // its length, header included
	limit   int64       // what records may grow to
	begun   int64       // monotonic nanoseconds
	retry   int64       // monotonic nanoseconds before which no rotation is tried
	buf     []byte
}

// OpenFileStore opens the store in dir, which it makes when it is missing, and reads what is there. It
// fails when another process has the store open, when a file is not its own, and when dir cannot be
// written.
func OpenFileStore(dir string, opts StoreOptions) (*FileStore, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("replay store: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, fileMode) // the operator's directory
	if err != nil {
		return nil, fmt.Errorf("replay store: open the lock: %w", err)
	}
	if err := lockFile(lock); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("replay store: lock %s: %w; give each gateway a state directory of its own", dir, err)
	}
	s := &FileStore{dir: dir, opts: opts.withDefaults(), lock: lock}
	if err := s.recover(); err != nil {
		_ = lock.Close()
		if s.out != nil {
			_ = s.out.Close()
		}
		return nil, fmt.Errorf("replay store: %w", err)
	}
	return s, nil
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&worldWrites != 0 {
		return fmt.Errorf("%s is writable by everybody; chmod 700 it", dir)
	}
	return nil
}

// recover reads both segments and writes what they hold into one new segment, which gets rid of torn
// and corrupt records on the way.
func (s *FileStore) recover() error {
	s.keys = newReplayKeys(s.opts.MaxKeys, s.opts.MaxPerClient)
	t := s.opts.instant()
	dropped := 0
	for seg := range uint8(segmentCount) {
		damage, err := s.readFile(seg, func(e replayEntry) {
			if e.wall < t.wall && len(s.keys.seen) >= maxLoaded*s.opts.MaxKeys {
				dropped++
				return
			}
			s.keys.load(e, t)
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", s.name(seg), err)
		}
		if damage != (segmentDamage{}) {
			s.opts.Logger.Warn("replay store: damaged records skipped", "file", s.name(seg),
				"corrupt", damage.corrupt, "torn_bytes", damage.torn)
		}
	}
	if dropped > 0 {
		s.opts.Logger.Warn("replay store: more outdated keys than fit, the rest dropped", "dropped", dropped)
	}
	if err := s.begin(0, t); err != nil {
		return err
	}
	// Its keys are in segment 0 as well; if this fails, they are merely read twice.
	if err := os.Remove(s.name(1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *FileStore) readFile(seg uint8, f func(replayEntry)) (segmentDamage, error) {
	in, err := os.Open(s.name(seg))
	if errors.Is(err, fs.ErrNotExist) {
		return segmentDamage{}, nil
	}
	if err != nil {
		return segmentDamage{}, err
	}
	defer in.Close() //nolint:errcheck // only read
	return readSegment(in, f)
}

// Claim implements Store.
func (s *FileStore) Claim(batch []Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		refuseAll(batch, ErrStoreClosed)
		return
	}
	t := s.opts.instant()
	s.keys.expire(t, len(batch))
	if err := s.rotate(t, len(batch)); err != nil {
		refuseAll(batch, fmt.Errorf("%w: begin a segment: %w", ErrUnrecorded, err))
		return
	}
	s.buf = s.buf[:0]
	for i := range batch {
		var e replayEntry
		if e, batch[i].Err = s.keys.claim(&batch[i], t, s.seg); batch[i].Err == nil {
			s.buf = appendRecord(s.buf, e)
		}
	}
	if len(s.buf) == 0 {
		return
	}
	// At an offset, so that what a failed write left behind is overwritten by the next.
	if _, err := s.out.WriteAt(s.buf, s.records*recordSize); err != nil {
		err = fmt.Errorf("%w: write %s: %w", ErrUnrecorded, s.name(s.seg), err)
		for i := range batch {
			if batch[i].Err == nil {
				batch[i].Err = err
				s.keys.unrecorded(&batch[i])
			}
		}
		for i := range batch { // a second claim of the batch for a key that is unrecorded now
			if batch[i].Err == ErrReplay && !s.keys.recorded(&batch[i]) { //nolint:errorlint // as the keys answer
				batch[i].Err = err
			}
		}
		return
	}
	s.records += int64(len(s.buf) / recordSize)
}

// boundsTries is how often Bounds tries, boundsPause apart, to ask a store that is
// being written: longer than a disk takes that is well.
const (
	boundsTries = 100
	boundsPause = time.Millisecond
)

// Bounds returns how full the store is, and its file; where its disk hangs, how full it
// was when somebody last asked.
func (s *FileStore) Bounds() []Bound {
	for left := boundsTries; !s.mu.TryLock(); left-- {
		if left > 0 {
			time.Sleep(boundsPause)
			continue
		}
		if last := s.bounds.Load(); last != nil {
			return slices.Clone(*last)
		}
		return nil
	}
	defer s.mu.Unlock()
	if s.out == nil {
		return nil
	}
	s.keys.expire(s.opts.instant(), expireWhenFull)
	now := append(s.keys.bounds(), Bound{"replay_file_records", int(s.records), int(s.limit)})
	s.bounds.Store(&now)
	return slices.Clone(now)
}

// Writable tries whether a block can be written where the segments are, and takes it
// away again: nil, or the error.
func (s *FileStore) Writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return ErrStoreClosed
	}
	name := filepath.Join(s.dir, newName)
	err := os.WriteFile(name, make([]byte, tried), fileMode)
	if gone := os.Remove(name); err == nil {
		err = gone
	}
	return err
}

// tried is how much Writable writes, in bytes: a block of the usual file systems,
// more than they keep beside a file's name.
const tried = 4096

// rotate begins a new segment when it is time to. It fails only when the segment has no room for
// adding more records.
func (s *FileStore) rotate(t instant, adding int) error {
	full := s.records+int64(adding) > s.limit
	over := s.records > 1 && t.mono-s.begun > s.keys.longest && s.keys.live[1-s.seg] == 0
	if !full && (!over || t.mono < s.retry) {
		return nil
	}
	err := s.begin(1-s.seg, t)
	if err == nil {
		return nil
	}
	s.retry = t.mono + int64(rotateRetry)
	if leftOut, ok := s.lines.Take(s.opts.Now()); ok {
		s.opts.Logger.Error("replay store: cannot begin a segment", sample.With(leftOut, "dir", s.dir, "error", err)...)
	}
	if full {
		return err
	}
	return nil
}

// begin replaces segment seg by a new one with the keys of it that are still held, and writes there from
// now on. When it fails, the segment being written is the same as before.
func (s *FileStore) begin(seg uint8, t instant) error {
	records, err := s.create(seg)
	if err != nil {
		return err
	}
	out, err := s.opts.open(s.name(seg))
	if err != nil {
		return err
	}
	if s.out != nil {
		_ = s.out.Close() // its writes were answered for one by one
	}
	s.out, s.seg, s.records, s.begun = out, seg, records, t.mono
	s.limit = records + int64(segmentRoom*s.opts.MaxKeys)
	return nil
}

// create writes segment seg under another name and renames it into place, so that at any moment one
// complete file has its keys. It returns the number of records, header included.
func (s *FileStore) create(seg uint8) (records int64, err error) {
	name := filepath.Join(s.dir, newName)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode) // the operator's directory
	if err != nil {
		return 0, err
	}
	buf := appendHeader(make([]byte, 0, segmentBuffer))
	flush := func() {
		if err == nil {
			_, err = f.Write(buf)
			buf = buf[:0]
		}
	}
	records = 1
	s.keys.each(seg, func(e replayEntry) {
		if len(buf)+recordSize > segmentBuffer {
			flush()
		}
		if err == nil {
			buf = appendRecord(buf, e)
			records++
		}
	})
	flush()
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(name, s.name(seg))
	}
	return records, err
}

func (s *FileStore) name(seg uint8) string {
	return filepath.Join(s.dir, fmt.Sprintf("replay.%d", seg))
}

// Close implements Store. What was claimed is already in the file.
func (s *FileStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		return nil
	}
	err := errors.Join(s.out.Close(), s.lock.Close())
	s.out, s.keys = nil, nil
	return err
}
