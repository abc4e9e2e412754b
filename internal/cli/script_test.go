package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(leakChecker{m}, map[string]func(){"knockgw": func() { os.Exit(Main()) }})
}

// Each script in testdata/script is a piece of the command line, as somebody
// would use it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true})
}
