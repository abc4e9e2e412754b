package filter

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/knockgw/knockgw/internal/testtool"
)

// SipHash-1-3 of the bytes 0 to 39 under the key 0 to 15, of an implementation
// that has the reference's vectors right for SipHash-2-4.
func TestTheHashIsSipHash13(t *testing.T) {
	s := secret{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	var k key
	for i := range k {
		k[i] = s[0] + uint64(i)*0x0808080808080808
	}
	if got, want := s.hash(&k), uint64(0xc1d2363299e41531); got != want {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestTheProgramHashesAsGoDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	s := secret{random.Uint64(), random.Uint64()}
	var halves [2]*ebpf.Program
	for i := range halves {
		var a assembler
		a.emit(asm.Mov.Reg(skb, asm.R1))
		a.emit(asm.Mov.Imm(asm.R2, 0))
		a.loadAt(atAsk, keySize)
		a.hashOf(atAsk)
		a.emit(asm.RSh.Imm(asm.R0, int32(32*i)), asm.Return())
		a.here(toPass)
		a.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
		a.hash(s)
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: a.code, License: license})
		if errors.Is(err, fs.ErrPermission) && os.Getenv(testtool.RequireVariable) != "1" {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		halves[i] = p
	}
	for range 1000 {
		var k key
		frame := make([]byte, 14+keySize)
		for i := range k {
			k[i] = random.Uint64() >> random.IntN(64)
			binary.NativeEndian.PutUint64(frame[14+8*i:], k[i])
		}
		got := uint64(0)
		for i, p := range halves {
			half, _, err := p.Test(frame)
			if err != nil {
				t.Fatal(err)
			}
			got |= uint64(half) << (32 * i)
		}
		if want := s.hash(&k); got != want {
			t.Fatalf("%x: %x in the program, %x in Go", k, got, want)
		}
	}
}
