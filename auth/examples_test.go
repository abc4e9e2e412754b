package auth_test

import (
	"testing"

	"github.com/knockgw/knockgw/internal/exampletest"
)

func TestEverythingExportedIsInAnExampleThatRuns(t *testing.T) {
	exampletest.RequireExamples(t, "auth")
}
