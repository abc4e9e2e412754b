package gateway_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestTheListenerOfTheMetricsTakesOnlySoManyConnections(t *testing.T) {
	_, url, registry := observed(t, "")
	_, limit := bounds(t, registry)
	most := int(limit["metrics_connections"])
	if most == 0 {
		t.Fatal("it has no limit")
	}
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	closed := 0
	for range 2 * most {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held[most:] {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == io.EOF {
			closed++
		}
	}
	if used, _ := bounds(t, registry); closed != most || used["metrics_connections"] != limit["metrics_connections"] {
		t.Errorf("of %d connections %d were closed; %v are in use of %d", len(held), closed, used["metrics_connections"], most)
	}
	// One that is in is answered all the same.
	_ = held[0].SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(held[0], "GET /livez HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(held[0]).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Errorf("%q, %v", line, err)
	}
}
