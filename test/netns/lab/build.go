//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// BinaryVariable names a knockgw to test instead of the one that the
	// checkout builds.
	BinaryVariable = "KNOCKGW_BINARY"

	buildTime   = 5 * time.Minute // a cold build of netstack on two cores takes two
	mainPackage = "github.com/knockgw/knockgw/cmd/knockgw"
)

// A Build is the program under test. A test binary makes one, for all its labs,
// with its TestMain.
type Build struct {
	// Path is the program, executable by all accounts.
	Path string

	dir string
}

// NewBuild builds knockgw out of the checkout that the test is part of,
// race-checked if the test itself is.
func NewBuild() (b *Build, err error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		return &Build{Path: path}, nil
	}

	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "knockgw-test-")
	if err != nil {
		return nil, fmt.Errorf("make a directory to build in: %w", err)
	}
	b = &Build{Path: filepath.Join(dir, "knockgw"), dir: dir}

	// One of the tests runs it as an unprivileged account.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		return nil, errors.Join(err, b.Remove())
	}

	args := []string{"build", "-o", b.Path}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, mainPackage)...) //nolint:gosec // all ours
	if out, err := cmd.CombinedOutput(); err != nil {
		err = fmt.Errorf("build knockgw: %w\n%s", err, strings.TrimSpace(string(out)))
		return nil, errors.Join(err, b.Remove())
	}
	return b, nil
}

// Remove deletes what NewBuild has made.
func (b *Build) Remove() error {
	if b == nil || b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}
