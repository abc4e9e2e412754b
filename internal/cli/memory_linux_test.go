package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCgroupMemory(t *testing.T) {
	for _, c := range []struct {
		name, file, limit string
		want              int64
	}{
		{"a limit", "0::/system.slice/knockgw.service\n", "805306368\n", 805306368},
		{"beside version 1", "1:name=systemd:/x\n0::/system.slice/knockgw.service\n", "4096\n", 4096},
		{"none", "0::/system.slice/knockgw.service\n", "max\n", 0},
		{"another group's", "0::/user.slice\n", "4096\n", 0},
		{"version 1 only", "4:memory:/system.slice/knockgw.service\n", "4096\n", 0},
		{"nothing", "", "4096\n", 0},
	} {
		root := t.TempDir()
		group := filepath.Join(root, "system.slice/knockgw.service")
		if err := os.MkdirAll(group, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{filepath.Join(group, "memory.max"): c.limit, filepath.Join(root, "cgroup"): c.file} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := cgroupMemory(filepath.Join(root, "cgroup"), root); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if availableMemory() < 64<<20 {
		t.Errorf("%d bytes of memory", availableMemory())
	}
}
