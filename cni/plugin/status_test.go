package plugin

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestStatus(t *testing.T) {
	for name, c := range map[string]struct {
		conf string
		says string // "": ready
	}{
		"ready":                     {on(own), ""},
		"no ranges":                 {on(`,"ipam":{"type":"patchbay"}`), "no ranges"},
		"ranges from the runtime":   {on(`,"ipam":{"type":"patchbay"},"capabilities":{"ipRanges":true}`), ""},
		"no ranges, another matter": {on(`,"ipam":{"type":"patchbay"},"capabilities":{"ipRanges":false}`), "no ranges"},
		"no ipam":                   {on(``), ""},
		"no switch":                 {conf(`"switch":"gone"` + own), "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			err := l.status(t.Context(), args(c.conf))
			if c.says == "" {
				l.must(err)
				return
			}
			wantCode(t, err, codeNotAvailable, c.says)
		})
	}
}

func TestStatusWithABrokenStore(t *testing.T) {
	l := newLab(t)
	l.attached(on(own))
	files, err := filepath.Glob(filepath.Join(l.dirs.Run, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			if err := os.WriteFile(f, []byte(strings.Repeat("broken ", 4096)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantCode(t, l.status(t.Context(), args(on(own))), codeNotAvailable, l.dirs.Run)
}

func TestStatusWithAFullPool(t *testing.T) {
	l := newLab(t)
	two := vswitch.MACRange{First: vswitch.MAC{0x0a, 0x77}, Last: vswitch.MAC{0x0a, 0x77, 0, 0, 0, 1}} // the host's port takes one
	if _, err := l.client.SetMACPool(context.Background(), two); err != nil {
		t.Fatal(err)
	}
	l.attached(on(own))
	wantCode(t, l.status(t.Context(), args(on(own))), codeNotAvailable, "MAC pool", "patchbay mac pool set")
}

// What a user should merely know of does not make STATUS's answer.
func TestNotReadySaysWhatBlocks(t *testing.T) {
	err := notReady(engine.Status{Problems: []engine.Problem{
		{Message: "no carrier", Hint: "check the cable"},
		{Message: "the store is broken", Hint: "mend it", Blocks: true},
	}})
	wantCode(t, err, codeNotAvailable, "the store is broken", "mend it")
	if text := err.Error() + asCNI(err).Details; strings.Contains(text, "carrier") || strings.Contains(text, "cable") {
		t.Errorf("%s", text)
	}
}
