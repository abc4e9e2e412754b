// Package build tells which build of knockgw this program is. Whatever says a version takes it from here: the
// command, the control socket, the status page, the metrics and the man pages.
package build

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// What packages are built with (-X github.com/knockgw/knockgw/internal/build.version=...), where the checkout is
// not looked at. Other builds know theirs from the module or the checkout.
var version, commit, dirty string

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
