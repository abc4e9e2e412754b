package replay

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

	"github.com/knockgw/knockgw/internal/loglimit"
)

const (
	lockName    = "replay.lock"
	newName     = "replay.new" // a segment until it is complete and renamed
	fileMode    = 0o600        // the claims are private
	dirMode     = 0o700
	worldWrites = 0o002 // a user that can remove the files can replay the messages

	// segmentRoom is how many records a segment takes besides those it started
	// with, in multiples of MaxKeys. Usually a segment ends by age, with as
	// many records as messages in one lifetime; the limit is reached only if a
	// clock that was set back keeps old keys alive. With 2, the disk holds 2
	// segments of 2 MaxKeys records, 160 MB at the defaults, and the graced
	// keys.
	segmentRoom = 2

	// maxLoaded limits, in multiples of MaxKeys, the keys that are loaded
	// although the wall clock says they have expired: two segments.
	maxLoaded = 2 * segmentRoom

	// rotateRetry is the delay after a failed rotation that is not urgent.
	rotateRetry = time.Second
)

var errLocked = errors.New("in use by another process")

// FileStore is a Store that survives its process. It decides from memory; every
// batch is also appended to a file with one write(2) before Claim returns,
// which survives the death of the process at any moment. It is not synced to
// the disk: a power cut may lose the last seconds.
//
//	dir/replay.lock    locked while the store is open
//	dir/replay.0, .1   the segment being written and the one before it, in either order
//	dir/replay.new     a segment while it is being created
//
// Blocks of both segments are allocated before they are written: another
// program that fills the disk stops neither the store nor its next start. When
// the segment being written is older than the longest lifetime, every key of
// the other has expired, and that one is reused in place. If keys in the other
// are still held (the wall clock was set back), rotation waits until the
// segment being written is full, and a new one that starts with these keys
// replaces the other; only that needs more of the disk.
type FileStore struct {
	dir      string
	opts     Options
	lock     *os.File
	errorLog loglimit.Limiter // for segments that cannot be started or enlarged

	lastUsage atomic.Pointer[[]Usage] // of the last call of Usage

	mu        sync.Mutex
	keys      *keySet
	segs      [segmentCount]segment
	closed    bool
	seg       uint8 // the one being written
	startedAt int64 // monotonic nanoseconds
	retryAt   int64 // monotonic nanoseconds before which no rotation is tried
	buf       []byte
}

// segment is an open segment of a store. It counts records, the header included.
type segment struct {
	out        segmentFile
	generation uint32
	records    int64 // written
	allocated  int64 // records that the file has blocks for
	limit      int64 // maximum
}

// OpenFileStore opens the store in dir, which it creates if it is missing, and
// reads its files. It fails if another process has the store open, if a file is
// not a segment, and if dir cannot be written.
func OpenFileStore(dir string, opts Options) (*FileStore, error) {
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
		_ = s.closeSegments() // nothing was written
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
		return fmt.Errorf("%s is writable by all users; chmod 700 it", dir)
	}
	return nil
}

// recover reads both segments and creates those that are missing, damaged or of
// an older version.
func (s *FileStore) recover() error {
	s.keys = newKeySet(s.opts.MaxKeys, s.opts.MaxPerClient)
	t := s.opts.instant()
	var content [segmentCount]segmentContent
	dropped := 0
	for seg := range uint8(segmentCount) {
		var err error
		content[seg], err = s.readFile(seg, func(e entry) {
			if e.wall < t.wall && len(s.keys.recorded) >= maxLoaded*s.opts.MaxKeys {
				dropped++
				return
			}
			e.seg = seg
			s.keys.load(e, t)
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", s.name(seg), err)
		}
		if damage := content[seg].damage; damage != (segmentDamage{}) {
			s.opts.Logger.Warn("replay store: damaged records skipped", "file", s.name(seg),
				"corrupt", damage.corrupt, "torn_bytes", damage.torn)
		}
	}
	if dropped > 0 {
		s.opts.Logger.Warn("replay store: too many outdated keys, the rest dropped", "dropped", dropped)
	}

	for seg := range uint8(segmentCount) {
		if err := s.restore(seg, &content); err != nil {
			return err
		}
	}
	if int32(s.segs[1].generation-s.segs[0].generation) > 0 { // generations wrap around
		s.seg = 1
	}
	s.startedAt = t.mono
	return nil
}

// restore opens a segment that was read, for writing, or creates it from the
// keys that were in it. A damaged one that cannot be replaced, because the disk
// is full, is used as it is.
func (s *FileStore) restore(seg uint8, content *[segmentCount]segmentContent) error {
	c := &content[seg]
	if c.usable && c.damage == (segmentDamage{}) {
		return s.open(seg, c)
	}
	generation := 1 - uint32(seg) // of two new segments, the first is written
	switch other := &content[1-seg]; {
	case c.usable:
		generation = c.generation
	case other.usable:
		generation = other.generation - 1
	}
	err := s.create(seg, generation)
	if err == nil || !c.usable {
		return err
	}
	s.opts.Logger.Warn("replay store: using a damaged segment as it is", "file", s.name(seg), "err", err)
	return s.open(seg, c)
}

// open opens a segment for writing after the records that were read from it.
func (s *FileStore) open(seg uint8, c *segmentContent) error {
	out, err := s.opts.open(s.name(seg))
	if err != nil {
		return err
	}
	s.segs[seg] = segment{
		out: out, generation: c.generation, records: c.end, allocated: c.size,
		limit: max(c.end, s.records()),
	}
	return nil
}

// records is the maximum number of records of a segment that starts empty,
// header included.
func (s *FileStore) records() int64 { return 1 + int64(segmentRoom*s.opts.MaxKeys) }

func (s *FileStore) readFile(seg uint8, f func(entry)) (segmentContent, error) {
	in, err := os.Open(s.name(seg))
	if errors.Is(err, fs.ErrNotExist) {
		return segmentContent{}, nil
	}
	if err != nil {
		return segmentContent{}, err
	}
	defer in.Close() //nolint:errcheck // only read
	return readSegment(in, f)
}

// Claim implements Store.
func (s *FileStore) Claim(batch []Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		refuseAll(batch, ErrClosed)
		return
	}
	t := s.opts.instant()
	s.keys.expire(t, len(batch))
	if err := s.rotate(t, int64(len(batch))); err != nil {
		refuseAll(batch, fmt.Errorf("%w: start a segment: %w", ErrUnrecorded, err))
		return
	}

	to := &s.segs[s.seg]
	s.buf = s.buf[:0]
	for i := range batch {
		var e entry
		if e, batch[i].Err = s.keys.claim(&batch[i], t, s.seg); batch[i].Err == nil {
			s.buf = appendRecord(s.buf, e, to.generation)
		}
	}
	if len(s.buf) == 0 {
		return
	}

	// At an offset, so that the next write overwrites the rest of a failed one.
	if _, err := to.out.WriteAt(s.buf, to.records*recordSize); err != nil {
		s.refuseUnrecorded(batch, fmt.Errorf("%w: write %s: %w", ErrUnrecorded, s.name(s.seg), err))
		return
	}
	to.records += int64(len(s.buf) / recordSize)
	to.allocated = max(to.allocated, to.records)
}

// refuseUnrecorded sets the errors of a batch whose keys could not be written.
func (s *FileStore) refuseUnrecorded(batch []Claim, err error) {
	for i := range batch {
		if batch[i].Err == nil {
			batch[i].Err = err
			s.keys.markUnrecorded(&batch[i])
		}
	}
	for i := range batch { // a second claim of the batch for an unrecorded key
		if errors.Is(batch[i].Err, ErrReplayed) && !s.keys.isRecorded(&batch[i]) {
			batch[i].Err = err
		}
	}
}

// usageTries is how often Usage tries to lock a store that is being written,
// with usagePause between tries: longer than a healthy disk takes.
const (
	usageTries = 100
	usagePause = time.Millisecond
)

// Usage returns the usage of the store and its file; if the disk hangs, that of
// the last call.
func (s *FileStore) Usage() []Usage {
	for left := usageTries; !s.mu.TryLock(); left-- {
		if left > 0 {
			time.Sleep(usagePause)
			continue
		}
		if last := s.lastUsage.Load(); last != nil {
			return slices.Clone(*last)
		}
		return nil
	}
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.keys.expire(s.opts.instant(), expireWhenFull)
	to := &s.segs[s.seg]
	now := append(s.keys.usage(), Usage{"replay_file_records", int(to.records), int(to.limit)})
	s.lastUsage.Store(&now)
	return slices.Clone(now)
}

// Writable returns an error if the next claims could not be written: it writes
// zeros in their place, which are not valid records.
func (s *FileStore) Writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if _, err := os.Stat(s.name(s.seg)); err != nil {
		return err // writable, but missing at the next start
	}
	if err := s.rotate(s.opts.instant(), probeSize); err != nil {
		return err
	}
	to := &s.segs[s.seg]
	_, err := to.out.WriteAt(make([]byte, probeSize*recordSize), to.records*recordSize)
	return err
}

func (s *FileStore) name(seg uint8) string {
	return filepath.Join(s.dir, fmt.Sprintf("replay.%d", seg))
}

// Close implements Store. All claims are in the file already.
func (s *FileStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed, s.keys = true, nil
	return errors.Join(s.closeSegments(), s.lock.Close())
}

func (s *FileStore) closeSegments() (err error) {
	for i := range s.segs {
		if out := s.segs[i].out; out != nil {
			err = errors.Join(err, out.Close())
		}
	}
	return err
}
