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

// savedProfile is a profile and the file that it stands in.
type savedProfile struct {
	*Profile
	path string
}

// read is every profile that can be read, and what is wrong with the other files.
func (d Directory) read() (all []savedProfile, errs []error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("read the directory of profiles: %w", err)}
	}
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) != suffix || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if len(all)+len(errs) == maxProfiles {
			return all, append(errs, fmt.Errorf("%s has more than %d profiles; the others were not read", d, maxProfiles))
		}
		path := filepath.Join(string(d), e.Name())
		p, err := Load(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, savedProfile{p, path})
	}
	return all, errs
}

// Load reads every profile, that is every file *.yaml, and returns the good ones by name. A file that is
// not one, and two that have one name, are in the error, which is not a reason to do without the others.
// A directory that is not there has none.
func (d Directory) Load() ([]*Profile, error) {
	all, errs := d.read()
	files := map[string][]string{} // by name without case
	for _, s := range all {
		key := strings.ToLower(s.Name)
		files[key] = append(files[key], s.path)
	}
	var good []*Profile
	for _, s := range all {
		switch paths := files[strings.ToLower(s.Name)]; {
		case len(paths) == 1:
			good = append(good, s.Profile)
		case paths[0] == s.path:
			errs = append(errs, fmt.Errorf("%s all have the name %s; remove all but one, or rename them",
				strings.Join(paths, " and "), s.Name))
		}
	}
	slices.SortFunc(good, func(a, b *Profile) int { return cmp.Compare(a.Name, b.Name) })
	return good, errors.Join(errs...)
}

// path is the file of the profile of that name, where there is one, and where it belongs otherwise.
func (d Directory) path(name string) (path string, exists bool) {
	all, _ := d.read() // what cannot be read has no name
	for _, s := range all {
		if strings.EqualFold(s.Name, name) {
			return s.path, true
		}
	}
	return filepath.Join(string(d), name+suffix), false
}

// Find is the door to a target in any of the profiles: what Profile.Find takes, that after the name of
// the profile and a slash, or SERVICE.PROFILE. A target that several profiles know is an error that lists them. A bad file
// hides no good one: what is wrong with it is in the error of a target that was not found.
func (d Directory) Find(target string) (*Endpoint, error) {
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
	var doors []*Endpoint
	var failed error
	var offers []string
	for _, p := range all {
		if qualified && !strings.EqualFold(p.Name, name) {
			continue
		}
		offers = append(offers, p.Name+": "+p.list())
		door, err := p.Find(rest)
		switch {
		case err == nil:
			doors = append(doors, door)
		case !errors.Is(err, ErrNotFound):
			failed = errors.Join(failed, err)
		}
	}
	if dotted := FindDotted(all, target); len(doors) == 0 && failed == nil && dotted != nil {
		return dotted, nil
	}
	switch {
	case len(doors) == 1:
		return doors[0], nil
	case len(doors) > 1:
		names := make([]string, len(doors))
		for i, door := range doors {
			names[i] = door.Profile.Name + "/" + rest
		}
		return nil, fmt.Errorf("%q is %w; choose %s", target, ErrAmbiguous, strings.Join(names, " or "))
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
// and replaces a profile of that name only if it is told to: otherwise the error is fs.ErrExist.
func (d Directory) Save(p *Profile, replace bool) (path string, err error) {
	text, err := p.Marshal()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(string(d), privateDir); err != nil {
		return "", fmt.Errorf("save profile %s: %w", p.Name, err)
	}
	path, exists := d.path(p.Name)
	err = error(&fs.PathError{Op: "create", Path: path, Err: fs.ErrExist})
	if !exists || replace {
		err = privatefile.Write(path, text, replace)
	}
	if err != nil {
		return "", fmt.Errorf("save profile %s: %w", p.Name, err)
	}
	return path, nil
}

// Remove deletes a profile by its name.
func (d Directory) Remove(name string) error {
	path, exists := d.path(name)
	if !exists {
		return fmt.Errorf("remove profile %s: %w in %s", name, fs.ErrNotExist, d)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove profile %s: %w", name, err)
	}
	return nil
}
