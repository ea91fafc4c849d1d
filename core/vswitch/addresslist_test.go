package vswitch_test

import (
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestParseAddressList(t *testing.T) {
	for text, want := range map[string]string{
		"": "", " , ": "", "10.0.0.5": "10.0.0.5", "fd00:0::5,10.0.0.5 10.0.0.5": "10.0.0.5 fd00::5", "::ffff:10.0.0.5": "10.0.0.5",
	} {
		l, err := vswitch.ParseAddressList(text)
		if err != nil || string(l) != want || len(l.All()) != len(strings.Fields(want)) {
			t.Errorf("%q is read as %q, %v", text, l, err)
		}
	}
	for _, text := range []string{
		"x", "10.0.0.5/24", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "127.0.0.1", "255.255.255.255", "fe80::1%eth0",
		strings.Repeat("10.0.0.1 ", 65),
	} {
		if l, err := vswitch.ParseAddressList(text); err == nil {
			t.Errorf("%.40q is taken as %q", text, l)
		}
	}
}

// FuzzAddressList: what is read is written in one way.
func FuzzAddressList(f *testing.F) {
	f.Add("10.0.0.5, fd00::5")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := vswitch.ParseAddressList(text)
		if err != nil {
			return
		}
		if again, err := vswitch.ParseAddressList(string(l)); err != nil || again != l {
			t.Errorf("%q becomes %q, and that %q, %v", text, l, again, err)
		}
	})
}
