package control

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// interim counts the interim responses.
type interim struct {
	*httptest.ResponseRecorder
	n int
}

func (w *interim) WriteHeader(status int) {
	if status == http.StatusProcessing {
		w.n++
	}
}

func TestServerReportsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for took, want := range map[time.Duration]int{time.Second: 0, 3*progressInterval + time.Second: 3, 10 * time.Minute: 60} {
			w := &interim{ResponseRecorder: httptest.NewRecorder()}
			answer, err := runWithProgress(w, nil, func(*http.Request) (any, error) {
				time.Sleep(took)
				return took, nil
			})
			if answer != any(took) || err != nil || w.n < want-1 || w.n > want {
				t.Errorf("%v: %v, %v, %d interim responses", took, answer, err, w.n)
			}
		}
	})
}

func TestClientWaitsForProgress(t *testing.T) {
	const said = 20 // more than net/http takes from a server by default
	path := t.TempDir() + "/s.sock"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range said {
			w.WriteHeader(http.StatusProcessing)
		}
		writeJSON(w, http.StatusOK, Result{Applied: true})
	})}
	done := make(chan error)
	go func() { done <- server.Serve(ln) }()
	heard := 0
	c := Client{Socket: path, Working: func() { heard++ }}
	if r, err := c.Reload(t.Context()); err != nil || !r.Applied || heard != said {
		t.Errorf("%+v, %v, heard %d times", r, err, heard)
	}
	_ = server.Close()
	<-done
}
