package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDetectTerminal(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	pipe, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = tty.Close(), pipe.Close(), end.Close() })
	for _, tc := range []struct {
		name string
		file *os.File
		env  map[string]string
		want terminal
	}{
		{"terminal", tty, map[string]string{"LANG": "de_DE.UTF-8"}, terminal{columns: 80, color: true, unicode: true}},
		{"no colour wanted", tty, map[string]string{"NO_COLOR": "1"}, terminal{columns: 80}},
		{"dumb terminal", tty, map[string]string{"TERM": "dumb"}, terminal{columns: 80}},
		{"pipe", end, map[string]string{"LC_CTYPE": "C.utf8"}, terminal{unicode: true}},
		{"LC_ALL wins", end, map[string]string{"LC_ALL": "C", "LANG": "en_US.UTF-8"}, terminal{}},
		{"no locale", end, nil, terminal{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := detectTerminal(tc.file, func(name string) string { return tc.env[name] })
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(terminal{})); diff != "" {
				t.Errorf("terminal (-want +got):\n%s", diff)
			}
		})
	}
}

// A cell cannot command the terminal, and an empty one is still a word.
func TestGrid(t *testing.T) {
	g := grid{heading: []string{"NAME", "X"}}
	g.add("a\x1b[2Jb", "")
	g.add("ümlaut-name", "1")
	want := "NAME         X\na [2Jb       -\nümlaut-name  1\n"
	if diff := cmp.Diff(want, g.render(terminal{})); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
