package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(leakChecker{m}, map[string]func(){"knockgw": func() { os.Exit(Main()) }})
}

// TestScripts runs the scripts in testdata/script, which use the command line as
// users do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true})
}
