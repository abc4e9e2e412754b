//go:build linux

package filter

import ("testing";"errors";"github.com/cilium/ebpf")

func TestLoads(t *testing.T) {
	f, err := Open(Options{Flows: 1000, Sources: 1000, Expected: 1000})
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) { t.Fatalf("%+v", ve) }
	if err != nil { t.Fatal(err) }
	t.Log(f.program.Stats())
	t.Log(f.program)
	i,_ := f.program.Info()
	n,_:=i.VerifiedInstructions()
	j,_ := i.JitedSize()
	t.Log(n, j)
}
