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

// Write puts the files into the directory dir, which must be empty or not
// there: all of them, for their owner alone, or none. They are written and read
// back in a directory beside it, which then takes its name.
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
	// Only on Unix would an empty directory give way by itself.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("replace the empty directory: %w; name one that does not exist", err), os.RemoveAll(staging))
	}
	if err := os.Rename(staging, dir); err != nil {
		return errors.Join(fmt.Errorf("name the directory: %w", err), os.RemoveAll(staging))
	}
	return nil
}

// CheckEmpty is nil if dir can be written to without touching what is there: it
// does not exist, or is empty.
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

// writeFiles writes the files and reads them as those will who use them.
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
