package wire

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadAllAndWriteAll(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "little": "{}", "much": strings.Repeat("configuration ", 50_000)} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe() // which does not wait, as a runtime may leave it
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			sent := make(chan error, 1)
			go func() {
				sent <- WriteAll(int(w.Fd()), []byte(text))
				_ = w.Close()
			}()
			got, err := ReadAll(int(r.Fd()), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text, string(got)); diff != "" {
				t.Errorf("%d bytes, want %d", len(got), len(text))
			}
		})
	}
	if _, err := ReadAll(-1, 1); err == nil {
		t.Error("read from nowhere")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := errors.Join(WriteAll(int(w.Fd()), []byte("four")), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAll(int(r.Fd()), 3); err == nil {
		t.Error("read more than the most")
	}
}
