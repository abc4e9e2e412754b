package netlab

import "testing"

func TestFrameIsHousekeeping(t *testing.T) {
	for icmpType, want := range map[uint8]bool{
		128: false, 129: false, 1: false, 130: true, 133: true, 135: true, 136: true, 137: true, 143: true, 144: false,
	} {
		if got := (Frame{Proto: ProtoICMPv6, ICMPType: icmpType}).IsHousekeeping(); got != want {
			t.Errorf("ICMPv6 type %d is housekeeping: %v, want %v", icmpType, got, want)
		}
	}
	if (Frame{Proto: ProtoICMP, ICMPType: 135}).IsHousekeeping() {
		t.Error("IPv4 has no such housekeeping")
	}
}
