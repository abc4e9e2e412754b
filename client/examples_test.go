package client_test

import (
	"testing"

	"github.com/knockgw/knockgw/internal/exampletest"
)

func TestExamplesComplete(t *testing.T) {
	exampletest.RequireExamples(t, "client")
}
