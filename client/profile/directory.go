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

// Directory is a directory of profiles, with a file NAME.yaml for each.
type Directory string

// DirectoryVariable is the environment variable that sets the directory of
// profiles.
const DirectoryVariable = "KNOCKGW_PROFILES"

const (
	// privateDir is the mode of a new directory.
	privateDir fs.FileMode = 0o700
	// suffix is the extension of a profile's file.
	suffix = ".yaml"
	// maxProfiles limits the files that are read, in case the directory is not
	// one of profiles.
	maxProfiles = 256
)

// DefaultDirectory returns the value of KNOCKGW_PROFILES, or else the directory
// knockgw in $XDG_CONFIG_HOME or in ~/.config. It may not exist.
func DefaultDirectory() (Directory, error) {
	if dir := os.Getenv(DirectoryVariable); dir != "" {
		return Directory(dir), nil
	}
	base := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) { // the specification requires that a relative one be ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the directory of profiles: %w; set the environment variable %s", err, DirectoryVariable)
		}
		base = filepath.Join(home, ".config")
	}
	return Directory(filepath.Join(base, "knockgw")), nil
}

// Load reads a profile from a file, which only its owner may be able to read.
// Errors in its content are of type *[Error], joined if there are several.
func Load(path string) (*Profile, error) {
	data, err := privatefile.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read a profile: %w", err)
	}
	return Parse(path, data)
}

// savedProfile is a profile and its file.
type savedProfile struct {
	*Profile
	path string
}

// read returns every profile that can be read, and the errors of the other
// files.
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

// Load reads every profile, from the files *.yaml, and returns the valid ones
// sorted by name. The error lists the invalid files and the profiles that share
// a name; the others are returned in addition to it. A directory that does not
// exist has no profiles.
func (d Directory) Load() ([]*Profile, error) {
	all, errs := d.read()
	files := map[string][]string{} // by name in lower case
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
			errs = append(errs, fmt.Errorf("%s have the same name, %s; remove all but one, or rename them",
				strings.Join(paths, " and "), s.Name))
		}
	}
	slices.SortFunc(good, func(a, b *Profile) int { return cmp.Compare(a.Name, b.Name) })
	return good, errors.Join(errs...)
}

// path returns the file of the profile with the given name, or the path of a
// new file for it.
func (d Directory) path(name string) (path string, exists bool) {
	all, _ := d.read() // a file that cannot be read has no name
	for _, s := range all {
		if strings.EqualFold(s.Name, name) {
			return s.path, true
		}
	}
	return filepath.Join(string(d), name+suffix), false
}

// Find returns the endpoint of a target in any of the profiles. A target is
// what Profile.Find accepts, optionally after the name of a profile and a
// slash, or SERVICE.PROFILE. It is an error that lists the choices if several
// profiles have the target ([ErrAmbiguous]). The errors of invalid files are
// part of the error if the target is not found ([ErrNotFound]).
func (d Directory) Find(target string) (*Endpoint, error) {
	all, bad := d.Load()
	if len(all) == 0 {
		if bad != nil {
			return nil, bad
		}
		return nil, fmt.Errorf("%q is %w: there is no profile in %s; add one with knockgw import FILE", target, ErrNotFound, d)
	}

	name, rest, qualified := strings.Cut(target, "/")
	if !qualified {
		rest = target
	}
	var endpoints []*Endpoint
	var failed error
	var lists []string
	for _, p := range all {
		if qualified && !strings.EqualFold(p.Name, name) {
			continue
		}
		lists = append(lists, p.Name+": "+p.list())
		endpoint, err := p.Find(rest)
		switch {
		case err == nil:
			endpoints = append(endpoints, endpoint)
		case !errors.Is(err, ErrNotFound):
			failed = errors.Join(failed, err)
		}
	}

	if dotted := FindDotted(all, target); len(endpoints) == 0 && failed == nil && dotted != nil {
		return dotted, nil
	}
	switch {
	case len(endpoints) == 1:
		return endpoints[0], nil
	case len(endpoints) > 1:
		names := make([]string, len(endpoints))
		for i, endpoint := range endpoints {
			names[i] = endpoint.Profile.Name + "/" + rest
		}
		return nil, fmt.Errorf("%q is %w; choose %s", target, ErrAmbiguous, strings.Join(names, " or "))
	case failed != nil:
		return nil, failed
	case len(lists) == 0:
		names := make([]string, len(all))
		for i, p := range all {
			names[i] = p.Name
		}
		return nil, errors.Join(fmt.Errorf("%q is %w: no profile in %s is named %s; known: %s",
			target, ErrNotFound, d, name, strings.Join(names, ", ")), bad)
	default:
		return nil, errors.Join(fmt.Errorf("%q is %w; known: %s", target, ErrNotFound, strings.Join(lists, "; ")), bad)
	}
}

// Save writes a profile atomically to NAME.yaml, readable only by its owner,
// and returns the path. It makes the directory if necessary. If a profile of
// that name exists and replace is false, the error is fs.ErrExist.
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

// Remove deletes the profile with the given name.
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
