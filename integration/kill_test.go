package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// TestKilled kills the plugin, as by kill -9, before each step in the kernel that
// an ADD or a DEL takes in turn. Whatever is left then, the next DEL removes it,
// and so does the next GC.
func TestKilled(t *testing.T) {
	for _, x := range []struct {
		name   string
		victim string // the verb that is killed
		after  func(h *testHost, c *host.Container) reply
	}{
		{"ADD, then DEL", "ADD", (*testHost).del},
		{"ADD, then GC", "ADD", (*testHost).collect},
		{"DEL, then DEL", "DEL", (*testHost).del},
		{"DEL, then GC", "DEL", (*testHost).collect},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHost(t)
			plugin := filepath.Join(h.Root, "bin/faults/patchbay")
			if _, err := os.Stat(plugin); err != nil {
				t.Fatalf("%v; run `make build-faults`", err)
			}
			killed, finished := 0, false
			for step := 1; !finished; step++ {
				c := h.container(fmt.Sprintf("c%d", step))
				if x.victim == "DEL" {
					if r := h.exec(singleConfig, verb(c, "ADD")...); r.code != 0 {
						t.Fatalf("ADD before step %d: %s", step, r.stdout)
					}
				}
				finished = h.die(plugin, step, verb(c, x.victim))
				if !finished {
					killed++
				}
				if r := x.after(h, c); r.code != 0 {
					t.Fatalf("killed before step %d, then: %s", step, r.stdout)
				}
				h.nothingOf(c, step)
				if x.victim == "ADD" { // the next one makes the switch anew
					_, err := h.Patchbay("switch", "delete", "prod")
					ok(t, err)
				}
			}
			if killed == 0 {
				t.Error("the plugin was never killed: the build has no faults")
			}
			t.Logf("killed before each of %d steps", killed)
		})
	}
}

func verb(c *host.Container, command string) []string {
	return []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + c.ContainerID, "CNI_NETNS=" + c.NetNS, "CNI_IFNAME=eth0"}
}

func (h *testHost) del(c *host.Container) reply { return h.exec(singleConfig, verb(c, "DEL")...) }

func (h *testHost) collect(*host.Container) reply {
	none := strings.Replace(singleConfig, `"type":"patchbay"`, `"cni.dev/valid-attachments":[],"type":"patchbay"`, 1)
	return h.exec(none, "CNI_COMMAND=GC")
}

// die runs the plugin so that it dies before the step given, and reports whether
// it was done before that.
func (h *testHost) die(plugin string, step int, env []string) bool {
	h.t.Helper()
	var out []byte
	var err error
	ok(h.t, h.Do(func() error {
		c := exec.Command(plugin)
		c.Env = slices.Concat(h.Env(), env, []string{"CNI_PATH=" + strings.Join(h.PluginPath(), ":"), fmt.Sprintf("PATCHBAY_DIE_AT=%d", step)})
		c.Stdin = strings.NewReader(singleConfig)
		out, err = c.CombinedOutput()
		return nil
	}))
	if err != nil && !strings.Contains(err.Error(), "killed") {
		h.t.Fatalf("%v before step %d: %v: %s", env[0], step, err, out)
	}
	return err == nil
}

// nothingOf demands that no record, lease or netdev of a container is left. That
// the next one gets the only address of its network shows the lease.
func (h *testHost) nothingOf(c *host.Container, step int) {
	h.t.Helper()
	if left := h.ports(); len(left) > 0 {
		h.t.Fatalf("killed before step %d: ports left: %v", step, left)
	}
	if out := h.run(h.Netns, "ip", "-o", "link", "show", "type", "veth"); strings.Count(out, "\n") > 2 {
		h.t.Fatalf("killed before step %d: netdevs left: %s", step, out)
	}
	if out, err := c.Run("ip", "link", "show", "eth0"); err == nil {
		h.t.Fatalf("killed before step %d: the container has %s", step, out)
	}
	again := h.container("again-" + c.ContainerID)
	if r := h.exec(singleConfig, verb(again, "ADD")...); r.code != 0 {
		h.t.Fatalf("killed before step %d: the next ADD: %s", step, r.stdout)
	}
	reaches(h.t, again.Netns, "10.0.0.1")
	if r := h.del(again); r.code != 0 {
		h.t.Fatalf("killed before step %d: the next DEL: %s", step, r.stdout)
	}
}
