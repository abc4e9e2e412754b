package main

import (
	"strings"
	"testing"
	"time"
)

const events = `{"Action":"run","Package":"example.org/a","Test":"TestOne"}
{"Action":"output","Package":"example.org/a","Test":"TestOne","Output":"    a_test.go:7: it broke\n"}
{"Action":"fail","Package":"example.org/a","Test":"TestOne","Elapsed":1.5}
{"Action":"output","Package":"example.org/a","Test":"TestTwo","Output":"    a_test.go:9: long: make test-long\n"}
{"Action":"output","Package":"example.org/a","Test":"TestTwo","Output":"--- SKIP: TestTwo (0.00s)\n"}
{"Action":"skip","Package":"example.org/a","Test":"TestTwo","Elapsed":0}
{"Action":"output","Package":"example.org/a","Test":"TestThree","Output":"noise\n"}
{"Action":"pass","Package":"example.org/a","Test":"TestThree/part","Elapsed":0}
{"Action":"pass","Package":"example.org/a","Test":"TestThree","Elapsed":2}
{"Action":"fail","Package":"example.org/a","Elapsed":4}
`

func TestReportShowsFailuresAndSkips(t *testing.T) {
	var out strings.Builder
	r := report{out: &out, each: []string{"a"}, started: time.Now(), output: make(map[string][]string)}
	r.read(strings.NewReader(events))
	r.summary()
	for _, want := range []string{
		"it broke", "fail    1.5s example.org/a TestOne", "pass    2.0s example.org/a TestThree\n", "fail    4.0s example.org/a\n",
		"1 tests passed, 1 failed, 1 skipped", "skipped: a TestTwo: long: make test-long",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "noise") {
		t.Errorf("the report shows the output of a test that passed:\n%s", out.String())
	}
}
