package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCnitool goes through the verbs of the reference command line.
func TestCnitool(t *testing.T) {
	h := newHost(t)
	c := h.container("one")
	conf := filepath.Join(h.Dir, "net.d")
	ok(t, os.Mkdir(conf, 0o755))
	ok(t, os.WriteFile(filepath.Join(conf, "10-net1.conflist"), []byte(internal("1.1.0")), 0o644))
	env := append(h.Env(), "NETCONFPATH="+conf, "CNI_PATH="+strings.Join(h.PluginPath(), ":"))
	cnitool := filepath.Join(h.Root, "bin/tools/cnitool")
	tool(t, cnitool)
	verb := func(verb string) string {
		out, err := h.RunEnv(env, cnitool, verb, "net1", c.NetNS)
		if err != nil {
			t.Errorf("cnitool %s: %v", verb, err)
		}
		return out
	}
	verb("status")
	if out := verb("add"); !strings.Contains(out, "10.0.0.2/24") {
		t.Errorf("cnitool add: %s", out)
	}
	reaches(t, c.Netns, "10.0.0.1")
	verb("check")
	verb("del")
	verb("del")
	verb("add")
	verb("gc") // without an attachment that it calls valid, everything goes
	if left := h.ports(); len(left) > 0 {
		t.Errorf("ports after gc: %v", left)
	}
}
