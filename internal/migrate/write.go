package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/knockgw/knockgw/client/profile"
	"github.com/knockgw/knockgw/config"
	"github.com/knockgw/knockgw/internal/privatefile"
)

// Write writes the files to the directory dir, which must be empty or not
// exist. It writes all files, readable only by their owner, or none: they are
// written to a temporary directory and read back, and the directory is then
// renamed.
func (r *Result) Write(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := CheckEmpty(dir); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	staging, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".*.tmp") // with mode 0700
	if err != nil {
		return fmt.Errorf("make a directory in %s: %w", parent, err)
	}

	if err := r.writeFiles(staging); err != nil {
		return errors.Join(err, os.RemoveAll(staging))
	}
	// Only Unix replaces an empty directory in a rename.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("replace the empty directory: %w; name one that does not exist", err), os.RemoveAll(staging))
	}
	if err := os.Rename(staging, dir); err != nil {
		return errors.Join(fmt.Errorf("name the directory: %w", err), os.RemoveAll(staging))
	}
	return nil
}

// CheckEmpty returns an error unless dir is empty or does not exist.
func CheckEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w; name a directory that does not exist, or an empty one", err)
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty; name a directory that does not exist, or an empty one", dir)
	}
	return nil
}

// writeFiles writes the files and reads them back with their parsers.
func (r *Result) writeFiles(dir string) error {
	for _, f := range r.Files {
		if err := privatefile.Write(filepath.Join(dir, f.Name), f.Data, false); err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	if len(r.Files) == 0 {
		return errors.New("there is nothing to write")
	}
	path := filepath.Join(dir, r.Files[0].Name)
	if !r.Server {
		_, err := profile.Load(path)
		return err
	}
	_, err := config.Load(path)
	return err
}
