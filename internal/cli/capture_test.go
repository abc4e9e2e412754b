package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knockgw/knockgw/capture"
	"github.com/knockgw/knockgw/protocol"
)

func TestCaptureSummary(t *testing.T) {
	g := newFakeGateway(t)
	file := filepath.Join(t.TempDir(), "f.pcapng")
	out, _, err := runCommandLine(t, nil, "capture", "--config", g.config, "-o", file, "--summary", "json")
	var sum captureRun
	if err := errors.Join(err, json.Unmarshal([]byte(out), &sum)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || sum.Packets != 2 || sum.Dropped != 9 || sum.Bytes != info.Size() || sum.File != file || sum.Full {
		t.Errorf("%s of %v", out, info)
	}
	out, errs, err := runCommandLine(t, nil, "capture", "--config", g.config, "-o", "-", "--summary", "json")
	if err != nil || int64(len(out)) != info.Size() || !strings.Contains(errs, `"packets":2`) {
		t.Errorf("%v, %d bytes, %s", err, len(out), errs)
	}
	_, errs, err = runCommandLine(t, nil, "capture", "--config", g.config, "-o", file+"2")
	if err != nil || !strings.Contains(errs, "2 packets, ") || !strings.Contains(errs, "9 more were dropped") {
		t.Errorf("%v: %s", err, errs)
	}
	for _, word := range []string{asJSON, asText} {
		if _, _, err := runCommandLine(t, nil, "capture", "--config", g.config, "-o", word); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "--summary "+word) {
			t.Errorf("-o %s: %v", word, err)
		}
	}
}

func TestFilterUnknownReason(t *testing.T) {
	for _, line := range []string{"capture -o x --filter", "explain x --filter"} {
		_, _, err := runCommandLine(t, nil, append(strings.Fields(line), "reason nosuch")...)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "--filter: ") || !strings.Contains(err.Error(), "malformed-version, no-flow") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestCaptureMaxKnock(t *testing.T) {
	if capture.MaxKnock != protocol.MaxKnock {
		t.Errorf("%d is kept of a knock of %d bytes", capture.MaxKnock, protocol.MaxKnock)
	}
}
