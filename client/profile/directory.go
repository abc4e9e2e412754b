package profile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knockgw/knockgw/internal/privatefile"
)

// Directory is where profiles are kept, a file NAME.yaml for each.
type Directory string

// DirectoryVariable names the environment variable that says where profiles are kept.
const DirectoryVariable = "KNOCKGW_PROFILES"

const (
	// privateDir is the mode of a directory that is made.
	privateDir fs.FileMode = 0o700
	// suffix is that of a profile's file name.
	suffix = ".yaml"
	// maxProfiles bounds what is read of a directory that is not one of profiles.
	maxProfiles = 256
)

// DefaultDirectory is what KNOCKGW_PROFILES says, or knockgw in $XDG_CONFIG_HOME or in ~/.config. It need
// not exist.
func DefaultDirectory() (Directory, error) {
	if dir := os.Getenv(DirectoryVariable); dir != "" {
		return Directory(dir), nil
	}
	base := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) { // a relative one is to be ignored, says its specification
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the directory of profiles: %w; say where it is in %s", err, DirectoryVariable)
		}
		base = filepath.Join(home, ".config")
	}
	return Directory(filepath.Join(base, "knockgw")), nil
}

// Load reads one profile from a file, which its owner alone may be able to read. Mistakes in it are
// *Errors, several of them joined.
func Load(path string) (*Profile, error) {
	data, err := privatefile.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read a profile: %w", err)
	}
	return Parse(path, data)
}

// Load reads every profile, that is every file *.yaml, and returns the good ones by name. A file that is
// not one, and two that have one name, are in the error, which is not a reason to do without the others.
// A directory that is not there has none.
func (d Directory) Load() ([]*Profile, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the directory of profiles: %w", err)
	}
	var errs []error
	files := map[string][]string{} // by lower-case name
	var all []*Profile
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) != suffix || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if len(all)+len(errs) == maxProfiles {
			errs = append(errs, fmt.Errorf("%s has more than %d profiles; the others were not read", d, maxProfiles))
			break
		}
		path := filepath.Join(string(d), e.Name())
		p, err := Load(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		key := strings.ToLower(p.Name)
		files[key] = append(files[key], path)
		all = append(all, p)
	}
	all = slices.DeleteFunc(all, func(p *Profile) bool { return len(files[strings.ToLower(p.Name)]) > 1 })
	for name, paths := range files {
		if len(paths) > 1 {
			errs = append(errs, fmt.Errorf("the profiles %s all have the name %s; remove all but one, or rename them",
				strings.Join(paths, ", "), name))
		}
	}
	slices.SortFunc(all, func(a, b *Profile) int { return cmp.Compare(a.Name, b.Name) })
	return all, errors.Join(errs...)
}

// Find is the door to a target in any of the profiles: what Profile.Find takes, or that after the name of
// the profile and a slash. A target that several profiles know is an error that lists them. A bad file
// hides no good one: what is wrong with it is in the error of a target that was not found.
func (d Directory) Find(target string) (*Door, error) {
	all, bad := d.Load()
	if len(all) == 0 {
		if bad != nil {
			return nil, bad
		}
		return nil, fmt.Errorf("%q is %w: there is none in %s; get one with knockgw import FILE", target, ErrNotFound, d)
	}
	name, rest, qualified := strings.Cut(target, "/")
	if !qualified {
		rest = target
	}
	var doors []*Door
	var failed error
	var offers []string
	for _, p := range all {
		if qualified && !strings.EqualFold(p.Name, name) {
			continue
		}
		offers = append(offers, p.Name+": "+p.offer())
		door, err := p.Find(rest)
		switch {
		case err == nil:
			doors = append(doors, door)
		case !errors.Is(err, ErrNotFound):
			failed = errors.Join(failed, err)
		}
	}
	switch {
	case len(doors) == 1:
		return doors[0], nil
	case len(doors) > 1:
		names := make([]string, len(doors))
		for i, door := range doors {
			names[i] = door.Profile.Name + "/" + rest
		}
		return nil, fmt.Errorf("%q is in several profiles; choose %s", target, strings.Join(names, " or "))
	case failed != nil:
		return nil, failed
	case len(offers) == 0:
		names := make([]string, len(all))
		for i, p := range all {
			names[i] = p.Name
		}
		return nil, errors.Join(fmt.Errorf("%q is %w: no profile in %s is called %s; there is %s",
			target, ErrNotFound, d, name, strings.Join(names, ", ")), bad)
	default:
		return nil, errors.Join(fmt.Errorf("%q is %w; there is %s", target, ErrNotFound, strings.Join(offers, "; ")), bad)
	}
}

// Save writes a profile to NAME.yaml, whole or not at all, for its owner alone. It makes the directory,
// and replaces a profile of that name only if it is told to.
func (d Directory) Save(p *Profile, replace bool) (path string, err error) {
	text, err := p.Marshal()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(string(d), privateDir); err != nil {
		return "", fmt.Errorf("save profile %s: %w", p.Name, err)
	}
	path = filepath.Join(string(d), p.Name+suffix)
	if err := privatefile.Write(path, text, replace); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("save profile %s: %w; choose another name, or say that it is to be replaced", p.Name, err)
		}
		return "", fmt.Errorf("save profile %s: %w", p.Name, err)
	}
	return path, nil
}

// Remove deletes a profile by its name.
func (d Directory) Remove(name string) error {
	if !isName(name) {
		return fmt.Errorf("%q is not the name of a profile", name)
	}
	if err := os.Remove(filepath.Join(string(d), name+suffix)); err != nil {
		return fmt.Errorf("remove profile %s: %w", name, err)
	}
	return nil
}
