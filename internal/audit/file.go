package audit

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

const (
	// DefaultMaxBytes is how large a file grows before it is set aside.
	DefaultMaxBytes = 64 << 20
	// DefaultKeep is how many files are kept besides the one being written.
	DefaultKeep = 4

	mode = 0o640 // for the group that reads logs, and nobody else
)

// FileOptions say where the record is kept. Never are there more than Keep + 1
// files of MaxBytes each.
type FileOptions struct {
	Path     string
	MaxBytes int64 // default DefaultMaxBytes
	Keep     int   // default DefaultKeep; negative for none
}

// A File is a file that is set aside when it is full: path becomes path.1, which
// becomes path.2, and the oldest goes. Where somebody else has moved or
// removed it (logrotate, say), it is made anew with the next line, and nobody needs
// to be told. It is for one goroutine.
type File struct {
	o    FileOptions
	f    *os.File
	info os.FileInfo // of f
	size int64
	torn bool // a part of a line is at its end, which could not be taken back
}

// OpenFile opens the file for appending, or makes it.
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
	f.torn = f.size > 0 && torn(f.o.Path, f.size)
	return nil
}

// torn tells whether a file ends within a line, as it does when the power has failed. One
// that cannot be read is taken for whole: to write it takes less.
func torn(path string, size int64) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // only read
	var last [1]byte
	_, err = file.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}

// follow makes sure that what is open is what the path names, and knows its size.
func (f *File) follow() error {
	if f.f != nil {
		info, err := os.Stat(f.o.Path)
		if err == nil && os.SameFile(info, f.info) {
			f.size = info.Size() // less than before, where it was copied and truncated
			f.torn = f.torn && f.size > 0
			return nil
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return f.open()
}

// Write appends a line. If it would make the file too large, the file is set
// aside first; a line is never cut. After an error the next line tries anew.
func (f *File) Write(line []byte) (int, error) {
	if err := f.follow(); err != nil {
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
	if err != nil && n > 0 { // the disk is full: no reader is to find half a line
		f.torn = f.f.Truncate(f.size) != nil
	}
	return n, err
}

// rotate sets the file aside and begins the next.
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

// name is the i-th file's, 0 being the one that is written.
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
