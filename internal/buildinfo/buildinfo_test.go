package buildinfo

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestOfPrefersLinkerValues(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}
	ours := debug.BuildInfo{Main: debug.Module{Path: module, Version: "v1.2.3"}, Settings: vcs}
	for _, c := range []struct {
		name    string
		program debug.BuildInfo
		linked  Info
		want    Info
	}{
		{"a package", ours, Info{Version: "2", Commit: "def"}, Info{Version: "2", Commit: "def"}},
		{"a checkout", ours, Info{}, Info{Version: "v1.2.3", Commit: "abc", Dirty: true}},
		{"no version", debug.BuildInfo{Main: debug.Module{Path: module}}, Info{}, Info{Version: Unknown}},
		{"another program", debug.BuildInfo{
			Main: debug.Module{Path: "example.org/a", Version: "v9"}, Settings: vcs,
			Deps: []*debug.Module{{Path: "example.org/b", Version: "v8"}, {Path: module, Version: "v1.2.4"}},
		}, Info{}, Info{Version: "v1.2.4"}},
		{"nothing", debug.BuildInfo{}, Info{}, Info{Version: Unknown}},
	} {
		if got := of(&c.program, c.linked); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if got := This(); got.Version == "" || got.Go != runtime.Version() {
		t.Errorf("this one: %+v", got)
	}
}
