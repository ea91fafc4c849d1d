package integration_test

import (
	"runtime"
	"strings"
	"testing"
)

// TestHandedOver: where patchbayd runs, the plugin's process does no more than to ask it.
// What it prints is the same to the letter as without.
func TestHandedOver(t *testing.T) {
	h := newDaemonHost(t)
	c := h.container("one")
	const trace = "GODEBUG=inittrace=1" // tells on standard error what is initialised
	plugin := func(handed bool, stdin, command string) string {
		t.Helper()
		r := h.exec(stdin, append(verb(c, command), trace)...)
		if r.code != 0 {
			t.Fatalf("%s: %s", command, r.stdout)
		}
		if strings.Contains(r.stderr, "init os ") == handed {
			t.Errorf("%s: that patchbayd does it all is not %v:\n%s", command, handed, r.stderr)
		}
		if handed && runtime.GOARCH == "amd64" && r.stderr != "" {
			t.Errorf("%s: the runtime has begun:\n%s", command, r.stderr)
		}
		return r.stdout
	}
	added := plugin(true, config("1.1.0", ""), "ADD")
	reaches(t, c.Netns, "10.0.0.1")
	plugin(true, config("1.1.0", `,"prevResult":`+added), "CHECK")
	plugin(true, config("1.1.0", ""), "STATUS")
	plugin(true, config("1.1.0", `,"cni.dev/valid-attachments":[{"containerID":"one","ifname":"eth0"}]`), "GC")
	failed := h.exec(config("9.9.9", ""), verb(c, "ADD")...)

	h.stopDaemon()
	if again := plugin(false, config("1.1.0", ""), "ADD"); again != added {
		t.Errorf("without patchbayd:\n%s\nwith it:\n%s", again, added)
	}
	if again := h.exec(config("9.9.9", ""), verb(c, "ADD")...); again.code != failed.code || again.stdout != failed.stdout {
		t.Errorf("a failure without patchbayd:\n%+v\nwith it:\n%+v", again, failed)
	}

	h.startDaemon()
	static := strings.Replace(config("1.1.0", ""), `"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24"}]]}`,
		`"ipam":{"type":"static","addresses":[{"address":"10.0.0.7/24"}]}`, 1)
	plugin(true, config("1.1.0", ""), "DEL")
	if out := plugin(false, static, "ADD"); !strings.Contains(out, "10.0.0.7/24") {
		t.Errorf("by another IPAM plugin: %s", out)
	}
	plugin(false, static, "DEL")
	if left := h.ports(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
