package vswitch_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestShellWords has a real shell read what is written for one.
func TestShellWords(t *testing.T) {
	words := []string{
		"web01", "", "my vm", "it's", `say "hi"`, "$(reboot)", "`reboot`", "a;b", "a&b|c>d<e", `\`, `'"$`, "*", "~", "!x", "Grüße", "-x", "#no", "{a,b}",
		"<ports><port alias='ua-web'/></ports>", "two\nlines",
	}
	out, err := exec.Command("sh", "-c", `printf '%s\0' `+vswitch.ShellWords(words...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSuffix(string(out), "\x00"); got != strings.Join(words, "\x00") {
		t.Errorf("a shell reads %q", strings.Split(got, "\x00"))
	}
	if got := vswitch.ShellWords("virsh", "metadata", "web01", "<a b='c'/>"); got != `virsh metadata web01 "<a b='c'/>"` {
		t.Errorf("written as %s", got)
	}
}
