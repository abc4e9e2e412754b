// Package buildinfo has the version of knockgw in this program. It is the only
// source of the version: for the command, the control socket, the status page,
// the metrics and the man pages.
package buildinfo

import (
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// Set by the linker in packages (-X
// github.com/knockgw/knockgw/internal/buildinfo.version=...). Other builds get
// theirs from the module or the checkout.
var version, commit, dirty, epoch string

// module is the path of this module. A program that embeds the gateway has
// another main module, and this one among its dependencies.
const module = "github.com/knockgw/knockgw"

// Unknown is the version of a build without version information.
const Unknown = "(unknown)"

// Info describes a build.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // of the sources, in hex; empty if unknown
	Dirty   bool   `json:"dirty"`  // the sources differed from the commit
	Go      string `json:"go_version"`
}

// This returns the build of the running program.
var This = sync.OnceValue(func() Info {
	program, ok := debug.ReadBuildInfo()
	if !ok {
		program = new(debug.BuildInfo)
	}
	return of(program, Info{Version: version, Commit: commit, Dirty: dirty == "true", Go: runtime.Version()})
})

// of returns the information set by the linker, or else that of the Go
// toolchain.
func of(program *debug.BuildInfo, i Info) Info {
	if i.Version != "" {
		return i
	}
	if i.Version = Unknown; program.Main.Path != module {
		for _, m := range program.Deps {
			if m.Path == module {
				i.Version = m.Version
			}
		}
		return i // the commit is that of the embedding program
	}
	if program.Main.Version != "" {
		i.Version = program.Main.Version
	}

	for _, s := range program.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Commit = s.Value
		case "vcs.modified":
			i.Dirty = s.Value == "true"
		}
	}
	return i
}

// firstYear is the year of builds without a time.
const firstYear = 2026

// Time returns a time before which the running program cannot have been built:
// that of its commit, if known.
var Time = sync.OnceValue(func() time.Time {
	program, ok := debug.ReadBuildInfo()
	if !ok {
		program = new(debug.BuildInfo)
	}
	return timeOf(program, epoch)
})

// timeOf returns the time of a build. epoch is set by the linker, in seconds
// since 1970 (SOURCE_DATE_EPOCH), or empty.
func timeOf(program *debug.BuildInfo, epoch string) time.Time {
	built := time.Date(firstYear, time.January, 1, 0, 0, 0, 0, time.UTC)
	if seconds, err := strconv.ParseInt(epoch, 10, 64); err == nil {
		built = later(built, time.Unix(seconds, 0).UTC())
	}
	for _, s := range program.Settings {
		if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
			built = later(built, t.UTC())
		}
	}
	return built
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
