// Package buildinfo tells which build of knockgw this program is. Whatever says a version takes it from here: the
// command, the control socket, the status page, the metrics and the man pages.
package buildinfo

import (
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// What packages are built with (-X github.com/knockgw/knockgw/internal/build.version=...), where the checkout is
// not looked at. Other builds know theirs from the module or the checkout.
var version, commit, dirty, epoch string

// module is ours. A program that embeds the gateway has another, and ours among those that it needs.
const module = "github.com/knockgw/knockgw"

// Unknown is the version of a build that does not know its own.
const Unknown = "(unknown)"

// Info is what is known of a build.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // of the sources, in hex; empty if it is not known
	Dirty   bool   `json:"dirty"`  // the sources were not those of the commit
	Go      string `json:"go_version"`
}

// This is the build of the running program.
var This = sync.OnceValue(func() Info {
	program, ok := debug.ReadBuildInfo()
	if !ok {
		program = new(debug.BuildInfo)
	}
	return of(program, Info{Version: version, Commit: commit, Dirty: dirty == "true", Go: runtime.Version()})
})

// of adds to what the linker was told what Go has written into the program.
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
		return i // the commit would be the embedding program's
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

// firstYear is what builds are later than that know no time of their own.
const firstYear = 2026

// Time is a time that the running program was built after: that of the commit
// it is of, where it is known.
var Time = sync.OnceValue(func() time.Time {
	program, ok := debug.ReadBuildInfo()
	if !ok {
		program = new(debug.BuildInfo)
	}
	return timeOf(program, epoch)
})

// timeOf is the time of a build, of which the linker was told epoch, in seconds
// since 1970 (SOURCE_DATE_EPOCH), or nothing.
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
