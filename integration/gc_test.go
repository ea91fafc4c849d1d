package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// TestGC removes what the runtime no longer knows, and nothing else.
func TestGC(t *testing.T) {
	for _, x := range []struct {
		name string
		gc   func(h *testHost, n *host.Network, keep *host.Container)
	}{
		{"by libcni", func(h *testHost, n *host.Network, keep *host.Container) { ok(h.t, n.GC(keep)) }},
		{"by the plugin alone", func(h *testHost, _ *host.Network, keep *host.Container) {
			valid := fmt.Sprintf(`,"cni.dev/valid-attachments":[{"containerID":%q,"ifname":"eth0"}]`, keep.ContainerID)
			if r := h.exec(config("1.1.0", valid), "CNI_COMMAND=GC"); r.code != 0 || r.stdout != "" {
				h.t.Errorf("GC: exit %d %s", r.code, r.stdout)
			}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network(internal("1.1.0"))
			keep, _ := h.attached(n, "keep")
			lost, _ := h.attached(n, "lost")
			h.attached(n, "stale")
			ok(t, lost.Close()) // as after a crash: the namespace is gone, nobody said DEL

			other := h.network(strings.ReplaceAll(internal("1.1.0"), `"net1"`, `"net2"`))
			neighbour, _ := h.attached(other, "neighbour") // of another network, on the same switch

			x.gc(h, n, keep)
			got := slices.Sorted(ids(h.ports()))
			if !slices.Equal(got, []string{"keep", "neighbour"}) {
				t.Errorf("ports of %v, want keep and neighbour", got)
			}
			reaches(t, keep.Netns, "10.0.0.1")
			reaches(t, neighbour.Netns, "10.0.0.1")
			ok(t, n.Check(keep))
			ok(t, other.Del(neighbour))
			ok(t, n.Del(keep))
		})
	}
}

// TestCheck finds what was changed behind our back, and says what would repair it.
func TestCheck(t *testing.T) {
	for _, x := range []struct {
		name   string
		damage []string // in the container, or on the host with {port}
		onHost bool
		says   string
	}{
		{"address removed", []string{"ip", "addr", "del", "10.0.0.2/24", "dev", "eth0"}, false, "10.0.0.2/24"},
		{"route removed", []string{"ip", "route", "del", "default"}, false, "0.0.0.0/0"},
		{"netdev down", []string{"ip", "link", "set", "eth0", "down"}, false, "eth0"},
		{"off the switch", []string{"ip", "link", "set", "{port}", "nomaster"}, true, "{port}"},
		{"netdev removed", []string{"ip", "link", "del", "{port}"}, true, "{port}"},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network(internal("1.1.0"))
			c, _ := h.attached(n, "one")
			ok(t, n.Check(c))
			port := h.ports()[0].Netdev
			at := c.Netns
			if x.onHost {
				at = h.Netns
			}
			for i := range x.damage {
				x.damage[i] = strings.ReplaceAll(x.damage[i], "{port}", port)
			}
			h.run(at, x.damage...)
			err := n.Check(c)
			if want := strings.ReplaceAll(x.says, "{port}", port); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("CHECK: %v, want an error that says %q", err, want)
			}
			ok(t, n.Del(c))
		})
	}
}

// TestCheckToleratesLaterPlugins: what others add is theirs.
func TestCheckToleratesLaterPlugins(t *testing.T) {
	h := newHost(t)
	n := h.network(internal("1.1.0"))
	c, _ := h.attached(n, "one")
	h.run(c.Netns, "ip", "addr", "add", "10.7.7.7/32", "dev", "eth0")
	h.run(c.Netns, "ip", "route", "add", "10.8.0.0/16", "via", "10.0.0.1")
	ok(t, n.Check(c))
	ok(t, n.Del(c))
}

// TestStatus tells before an ADD whether it could be served.
func TestStatus(t *testing.T) {
	h := newHost(t)
	if r := h.exec(config("1.1.0", ""), "CNI_COMMAND=STATUS"); r.code != 0 || r.stdout != "" {
		t.Errorf("STATUS: exit %d %s", r.code, r.stdout)
	}
	noUplink := strings.ReplaceAll(config("1.1.0", ""), `"name":"prod","type":"internal","gateway":["10.0.0.1/24"]`, `"name":"lan","uplink":"nic9"`)
	if r := h.exec(noUplink, "CNI_COMMAND=STATUS"); r.Code != 50 || !strings.Contains(r.stdout, "nic9") {
		t.Errorf("STATUS without the uplink: want code 50 and nic9: %s", r.stdout)
	}
	noIPAM := strings.ReplaceAll(config("1.1.0", ""), `"ipam":{"type":"patchbay"`, `"ipam":{"type":"no-such-ipam"`)
	noRanges := strings.ReplaceAll(config("1.1.0", ""), `"ranges":[[{"subnet":"10.0.0.0/24"}]]`, `"routes":[]`)
	if r := h.exec(noRanges, "CNI_COMMAND=STATUS"); r.Code != 50 || !strings.Contains(r.stdout, "ranges") {
		t.Errorf("STATUS without ranges: want code 50: %s", r.stdout)
	}
	if r := h.exec(noIPAM, "CNI_COMMAND=STATUS"); r.code == 0 || !strings.Contains(r.stdout, "no-such-ipam") {
		t.Errorf("STATUS without the IPAM plugin: %s", r.stdout)
	}
}

// TestStatusSaysWhatIsBroken: an ADD could not succeed, for the host's sake.
func TestStatusSaysWhatIsBroken(t *testing.T) {
	t.Run("full MAC pool", func(t *testing.T) {
		h := newHost(t)
		_, err := h.Patchbay("mac", "pool", "set", "--first", "0a:77:00:00:00:00", "--last", "0a:77:00:00:00:01")
		ok(t, err)
		n := h.network(internal("1.1.0"))
		c, _ := h.attached(n, "one") // beside the host's port
		if r := h.exec(config("1.1.0", ""), "CNI_COMMAND=STATUS"); r.Code != 50 || !strings.Contains(r.stdout, "MAC pool") || !strings.Contains(r.Detail, "patchbay mac pool set") {
			t.Errorf("STATUS: want code 50 and the pool: %s", r.stdout)
		}
		ok(t, n.Del(c))
	})
	t.Run("broken store", func(t *testing.T) {
		h := newHost(t)
		n := h.network(internal("1.1.0"))
		c, _ := h.attached(n, "one")
		ok(t, n.Del(c))
		files, err := filepath.Glob(filepath.Join(h.RunDir(), "*"))
		ok(t, err)
		saved := map[string][]byte{}
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && len(text) > 0 {
				saved[f] = text
				ok(t, os.WriteFile(f, bytes.Repeat([]byte("broken "), len(text)/7), 0o600))
			}
		}
		if len(saved) == 0 {
			t.Fatalf("no store in %v", files)
		}
		if r := h.exec(config("1.1.0", ""), "CNI_COMMAND=STATUS"); r.Code != 50 || !strings.Contains(r.stdout, h.RunDir()) {
			t.Errorf("STATUS: want code 50 and the file: %s", r.stdout)
		}
		for f, text := range saved {
			ok(t, os.WriteFile(f, text, 0o600))
		}
	})
}
