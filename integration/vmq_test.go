package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// startPatience is what a plugin may take to start in a guest on a busy machine, where the
// host tries again and again.
const startPatience = 2 * time.Minute

// TestVMQ: of containers on an uplink with queues for two and for the host, those with more weight have
// them, whose frames come in by them; the third one works, and its status says why it has
// none.
func TestVMQ(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	h := newHost(t)
	outside := h.queuesOutside()
	h.script(outside, "addr add 10.9.0.1/24 dev eth0")
	h.stopDaemon()
	h.install(filepath.Join(h.Root, "bin/plugins/patchbay-plugin-vmq"), "vmq")
	h.settings("vmq", map[string]any{"state": filepath.Join(h.RunDir(), "vmq.json")})
	h.startDaemon(withPlugins()...)
	h.patchbay("switch", "add", "wan", "--uplink", "eth0")
	_, err := h.daemon.Await(0, startPatience, "offload given", "feature=vmq") // to the host's port, with weight 100
	ok(t, err)

	defer h.patchbay("switch", "delete", "wan") // before the NIC goes
	containers := map[string]*host.Container{}
	for _, c := range []struct {
		id     string
		weight int
	}{{"light", 10}, {"middle", 50}, {"heavy", 90}} {
		lines := h.daemon.Lines()
		n := h.network(fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net1","plugins":[{"type":"patchbay","switch":"wan","offload":{"vmq":{"weight":%d}},
			"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.9.0.0/24","rangeStart":"10.9.0.2"}]]}}]}`, c.weight))
		containers[c.id], _ = h.attached(n, c.id)
		_, err := h.daemon.Await(lines, startPatience, "offload given", "feature=vmq")
		ok(t, err)
		defer func() { ok(t, n.Del(containers[c.id])) }()
	}
	queues := h.queues("wan")
	if diff := cmp.Diff(map[string]int{"light": 0, "middle": queues["middle"], "heavy": queues["heavy"]}, queues); diff != "" ||
		queues["middle"] == 0 || queues["heavy"] == 0 || queues["middle"] == queues["heavy"] {
		t.Fatalf("queues %v:\n%s", queues, h.patchbay("port", "list", "--offload"))
	}

	for i, id := range []string{"light", "middle", "heavy"} {
		before := h.counted(queues)
		for range 20 {
			reaches(t, outside, fmt.Sprintf("10.9.0.%d", 2+i))
		}
		for of, n := range h.counted(queues) {
			if got := n - before[of]; of == id && got < 20 || of != id && got > 0 {
				t.Errorf("of what %s heard %d frames came in by the queue of %s", id, got, of)
			}
		}
	}
}

// queuesOutside is outside with a NIC that has four queues and steers frames.
func (h *testHost) queuesOutside() *host.Netns {
	h.t.Helper()
	ns, err := h.Neighbour("outside-eth0")
	ok(h.t, err)
	h.simulated("eth0", 21, 4, ns)
	return ns
}

// simulated joins the host to a network beyond it by NICs in memory, which have the same name
// at both ends, as the kernel gives it: eth0 for the first, and so on. The host's is
// netdevsimID.
func (h *testHost) simulated(nic string, id, queues int, outside *host.Netns) {
	h.t.Helper()
	var ends []string
	for i, n := range []*host.Netns{h.Netns, outside} {
		id := fmt.Sprint(id + 100*i)
		ok(h.t, n.Write("/sys/bus/netdevsim/new_device", fmt.Sprintf("%s 1 %d", id, queues)))
		h.t.Cleanup(func() { ok(h.t, n.Write("/sys/bus/netdevsim/del_device", id)) })
		f, err := os.Open(n.Path)
		ok(h.t, err)
		defer f.Close() //nolint:errcheck // it names a namespace
		index := strings.TrimSpace(strings.Split(h.run(n, "ip", "-o", "link", "show", nic), ":")[0])
		ends = append(ends, fmt.Sprintf("%d:%s", f.Fd(), index))
		h.script(n, "link set "+nic+" up")
	}
	h.keeps = append(h.keeps, nic)
	ok(h.t, os.WriteFile("/sys/bus/netdevsim/link_device", []byte(strings.Join(ends, " ")), 0o200))
}

// queues are those that containers have of a switch's uplink, 0 for who has none; who has
// none must know why.
func (h *testHost) queues(sw string) map[string]int {
	h.t.Helper()
	var all []engine.SwitchOffload
	ok(h.t, h.PatchbayJSON(&all, "port", "list", "--offload"))
	queues := map[string]int{}
	for _, s := range all {
		for _, p := range s.Ports {
			if s.Switch != sw || p.Owner.Kind != vswitch.OwnerContainer {
				continue
			}
			for _, f := range p.Features {
				if f.Feature == vswitch.VMQ {
					queues[p.Owner.ID] = f.Queue
				}
				if f.Feature == vswitch.VMQ && !f.Effective && f.Reason != vswitch.NoFreeFilter {
					h.t.Errorf("%s has no queue: %s", p.Owner.ID, f.Reason)
				}
			}
		}
	}
	return queues
}

// counted is what came in by the queues of those who have one.
func (h *testHost) counted(queues map[string]int) map[string]uint64 {
	h.t.Helper()
	packets := map[string]uint64{}
	ok(h.t, h.Do(func() error {
		c, err := ethtool.Open()
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // a socket that was only asked
		nics, err := c.Adapters()
		if err != nil || len(nics) != 1 {
			return fmt.Errorf("NICs %+v: %w", nics, err)
		}
		for of, queue := range queues {
			if queue == 0 {
				continue
			}
			got, err := c.QueueCounters(nics[0], queue)
			if err != nil {
				return err
			}
			packets[of] = got["rx_packets"]
		}
		return nil
	}))
	return packets
}
