package audit

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

const (
	// DefaultMaxBytes is the size at which a file is rotated.
	DefaultMaxBytes = 64 << 20
	// DefaultKeep is how many rotated files are kept.
	DefaultKeep = 4

	mode = 0o640 // readable by the group that reads logs
)

// FileOptions configure a File. There are at most Keep + 1 files of MaxBytes
// each.
type FileOptions struct {
	Path     string
	MaxBytes int64 // default DefaultMaxBytes
	Keep     int   // default DefaultKeep; negative for none
}

// A File rotates when it is full: path becomes path.1, which becomes path.2, and
// the oldest is removed. If another process (logrotate, for example) moves or
// removes the file, the next line creates a new one, without any notification.
// It is not safe for concurrent use.
type File struct {
	o    FileOptions
	f    *os.File
	info os.FileInfo // of f
	size int64
	torn bool // ends in a partial line that could not be truncated
}

// OpenFile opens a file for appending, and creates it if necessary.
func OpenFile(o FileOptions) (*File, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Keep == 0 {
		o.Keep = DefaultKeep
	}
	f := &File{o: o}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) open() error {
	file, err := os.OpenFile(f.o.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, mode)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.o.Path)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.f, f.info, f.size = file, info, info.Size()
	f.torn = f.size > 0 && endsMidLine(f.o.Path, f.size)
	return nil
}

// endsMidLine reports whether a file ends within a line, as after a power
// failure. It assumes not if the file cannot be read: writing takes fewer
// permissions.
func endsMidLine(path string, size int64) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // only read
	var last [1]byte
	_, err = file.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}

// reopen opens the file again if the path no longer names it, and updates its
// size.
func (f *File) reopen() error {
	if f.f != nil {
		info, err := os.Stat(f.o.Path)
		if err == nil && os.SameFile(info, f.info) {
			f.size = info.Size() // smaller than before if it was copied and truncated
			f.torn = f.torn && f.size > 0
			return nil
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return f.open()
}

// Write appends a line, and rotates first if the file would become too large; a
// line is never split. After an error the next Write tries again.
func (f *File) Write(line []byte) (int, error) {
	if err := f.reopen(); err != nil {
		return 0, err
	}

	if f.size > 0 && f.size+int64(len(line)) > f.o.MaxBytes {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}

	if f.torn {
		if _, err := f.f.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		f.torn = false
		f.size++
	}

	n, err := f.f.Write(line)
	if err != nil && n > 0 { // the disk is full: leave no partial line
		f.torn = f.f.Truncate(f.size) != nil
	}
	return n, err
}

// rotate renames the files and opens a new one.
func (f *File) rotate() error {
	if err := f.Close(); err != nil {
		return err
	}
	if f.o.Keep < 0 {
		if err := os.Remove(f.o.Path); err != nil {
			return err
		}
	}
	for i := f.o.Keep; i > 0; i-- {
		if err := os.Rename(f.name(i-1), f.name(i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return f.open()
}

// name returns the name of the i-th file; 0 is the one being written.
func (f *File) name(i int) string {
	if i == 0 {
		return f.o.Path
	}
	return f.o.Path + "." + strconv.Itoa(i)
}

// Close closes the file.
func (f *File) Close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}
