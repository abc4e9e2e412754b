package capture

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"
)

func TestBlockWriterCutsBetweenBlocks(t *testing.T) {
	var whole bytes.Buffer
	w, err := NewWriter(&whole, WriterOptions{Interface: "knock0"})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := w.Write(&Record{Time: time.Unix(1, 0), Data: bytes.Repeat([]byte{0x45}, 60), Length: 60, Verdict: "drop", Reason: "no-grant"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(0); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct{ limit, chunk int }{{whole.Len(), 7}, {whole.Len() - 1, 7}, {600, 1}, {600, 1000}, {1, 3}} {
		var got bytes.Buffer
		b := &BlockWriter{W: &got, Limit: int64(c.limit)}
		var err error
		for rest := whole.Bytes(); len(rest) > 0 && err == nil; {
			n := min(c.chunk, len(rest))
			_, err = b.Write(rest[:n])
			rest = rest[n:]
		}
		if c.limit >= whole.Len() != (err == nil) || err != nil && !errors.Is(err, ErrLimit) {
			t.Errorf("%+v: %v", c, err)
		}
		if got.Len() > c.limit || !bytes.HasPrefix(whole.Bytes(), got.Bytes()) {
			t.Errorf("%+v: %d bytes", c, got.Len())
		}
		if got.Len() == 0 {
			continue
		}

		r, err := NewReader(&got)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = r.Next()
		}
		if err.Error() != "EOF" {
			t.Errorf("%+v: it ends with %v", c, err)
		}
	}
	if _, err := (&BlockWriter{W: &bytes.Buffer{}}).Write(make([]byte, 100)); !errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
}

// fullDisk accepts room bytes.
type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	d.room -= n
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func TestBlockWriterCountsWholeBlocks(t *testing.T) {
	block := []byte{6, 0, 0, 0, 12, 0, 0, 0, 12, 0, 0, 0}
	b := &BlockWriter{W: &fullDisk{room: 2*len(block) + 5}}
	_, err := b.Write(bytes.Repeat(block, 3))
	if !errors.Is(err, io.ErrShortWrite) || b.Bytes != int64(2*len(block)) {
		t.Errorf("%d bytes of whole blocks, %v", b.Bytes, err)
	}
}
