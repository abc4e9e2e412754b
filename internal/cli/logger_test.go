package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestLoggerFormatsDurations(t *testing.T) {
	var out bytes.Buffer
	log, err := logger(&out, "json", "info")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("stopping", "drain", 5*time.Second)
	if !strings.Contains(out.String(), `"drain":"5s"`) {
		t.Error(out.String())
	}
}
