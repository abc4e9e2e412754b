package bypass

import (
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// A host of this kernel, in a namespace of its own, is read as the evaluation
// needs it: with what a start would add, nothing is wrong but that it does not
// forward.
func TestReadEmptyHost(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if _, err := netns.New(); err != nil {
		t.Skipf("network namespaces need root: %v", err)
	}
	p := protects()
	s, err := Read(p)
	if err != nil {
		t.Fatal(err)
	}
	if s.NoSettings || s.named("lo") == nil || len(s.Rules) < 5 {
		t.Errorf("%+v", s)
	}
	for _, r := range s.Rules {
		if r.Other || r.Action != ToTable || r.SuppressLength != -1 {
			t.Errorf("a rule of the kernel's is read as %+v", r)
		}
	}
	for _, problem := range Evaluate(s.With(p), p) {
		if problem.Subject != "IPv6" {
			t.Errorf("%v", problem)
		}
	}
}
