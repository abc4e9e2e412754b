package replay

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/knockgw/knockgw/internal/loglimit"
)

// Rotation between the segments of a file store.

const (
	// probeSize is how many records Writable writes: more than a batch of
	// knocks has, and more than the usual file systems store in a file's
	// metadata.
	probeSize = 100
	// reserve is how many further records a segment has blocks for, 4 MiB:
	// 1,500 messages per second with the usual lifetime. When they are used, as
	// many are added.
	reserve = 4 << 20 / recordSize
	// reserveStep divides the reserve for the next try if it does not fit.
	reserveStep = 4
)

// rotate makes room for adding records: in the segment being written, or in the
// other one if it is time or there is no room. It fails only if this segment is
// at its limit and the other cannot be started; if the disk is full, the write
// that follows fails.
func (s *FileStore) rotate(t instant, adding int64) error {
	from := &s.segs[s.seg]
	need := from.records + adding
	full := need > from.limit
	old := from.records > 1 && t.mono-s.startedAt > s.keys.maxLifetime
	cramped := !full && need > from.allocated && !s.grow(from, need, t)
	if !full && (!old && !cramped || t.mono < s.retryAt) {
		return nil
	}

	var err error
	switch {
	case s.keys.live[1-s.seg] == 0:
		err = s.reuse(1 - s.seg)
	case full:
		err = s.create(1-s.seg, from.generation+1)
	default:
		return nil // its keys are still held
	}
	if err == nil {
		s.seg, s.startedAt = 1-s.seg, t.mono
		return nil
	}
	s.logFailure(t, "replay store: cannot start a segment", err)
	if full {
		return err
	}
	return nil
}

// logFailure logs a failure, at a limited rate, and delays the next attempt
// that is not urgent.
func (s *FileStore) logFailure(t instant, what string, err error) {
	s.retryAt = t.mono + int64(rotateRetry)
	if suppressed, ok := s.errorLog.Allow(s.opts.Now()); ok {
		s.opts.Logger.Error(what, loglimit.Attrs(suppressed, "dir", s.dir, "err", err)...)
	}
}

// grow reserves more of the disk for a segment that needs room for so many
// records. It reports whether there is that room.
func (s *FileStore) grow(to *segment, need int64, t instant) bool {
	if t.mono < s.retryAt {
		return false
	}
	room := max(need, min(to.allocated+reserve, to.limit))
	if err := to.out.allocate(to.allocated*recordSize, (room-to.allocated)*recordSize); err != nil {
		s.logFailure(t, "replay store: cannot reserve more disk space", err)
		return false
	}
	to.allocated = room
	return true
}

// reuse starts a segment whose keys have all expired, with a new header.
func (s *FileStore) reuse(seg uint8) error {
	to := &s.segs[seg]
	generation := s.segs[1-seg].generation + 1
	if _, err := to.out.WriteAt(appendHeader(nil, generation), 0); err != nil {
		return err
	}
	to.generation, to.records, to.limit = generation, 1, s.records()
	return nil
}

// create replaces segment seg by a new one with those of its keys that are
// still held. It is written under another name and renamed, so that at any
// moment one complete file has the keys. If create fails, nothing has changed.
func (s *FileStore) create(seg uint8, generation uint32) error {
	name := filepath.Join(s.dir, newName)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode) // the operator's directory
	if err != nil {
		return err
	}

	to := segment{generation: generation}
	err = s.fill(f, seg, &to)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(name, s.name(seg))
	}
	if err == nil {
		to.out, err = s.opts.open(s.name(seg))
	}
	if err != nil {
		_ = os.Remove(name) // to free its blocks
		return err
	}
	if old := s.segs[seg].out; old != nil {
		_ = old.Close() // its writes were checked one by one
	}
	s.segs[seg] = to
	return nil
}

// fill writes the header and the keys of segment seg to f, reserves blocks for
// more, and updates to.
func (s *FileStore) fill(f *os.File, seg uint8, to *segment) (err error) {
	buf := appendHeader(make([]byte, 0, segmentBuffer), to.generation)
	flush := func() {
		if err == nil {
			_, err = f.Write(buf)
			buf = buf[:0]
		}
	}

	to.records = 1
	s.keys.each(seg, func(e entry) {
		if len(buf)+recordSize > segmentBuffer {
			flush()
		}
		if err == nil {
			buf = appendRecord(buf, e, to.generation)
			to.records++
		}
	})
	flush()
	to.allocated, to.limit = to.records, to.records+int64(segmentRoom*s.opts.MaxKeys)
	if err != nil {
		return err
	}
	s.reserve(f, to)
	return nil
}

// reserve allocates blocks for further records in a new segment; on a small
// disk, fewer. If there are none, that is logged and not an error: the store
// works as long as the disk is not full.
func (s *FileStore) reserve(f *os.File, to *segment) {
	var err error
	wanted := min(reserve, to.limit-to.allocated)
	for n := wanted; n >= min(probeSize, wanted); n /= reserveStep {
		if err = allocate(f, to.allocated*recordSize, n*recordSize); err == nil {
			to.allocated += n
			break
		}
	}
	if err != nil {
		s.opts.Logger.Warn("replay store: cannot reserve disk space; clients will be refused if the disk fills up: free some space",
			"dir", s.dir, "bytes", wanted*recordSize, "err", err)
	}
}
