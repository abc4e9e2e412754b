package filter

import (
	"testing"

	"github.com/cilium/ebpf/asm"
)

// A part that lacks its last jump would go on in whatever follows it.
func TestNoPartOfTheProgramRunsIntoTheNext(t *testing.T) {
	b := builder{listedBuckets: fewestBuckets, expectedBuckets: fewestBuckets}
	for i, part := range b.parts() {
		part()
		end := b.code[len(b.code)-1]
		if op := end.OpCode.JumpOp(); b.label != "" || op != asm.Ja && op != asm.Exit {
			t.Errorf("part %d ends with %v", i, end)
		}
	}
}
