package vf_test

import (
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/host"
)

// couple is two containers with VFs and connections, of which b has a standby.
type couple struct {
	*vfHost
	a, b     *host.Netns
	sessions map[string]*host.Stream
}

// mishaps: whatever befalls the hardware, or who minds it, two containers have VFs again, as
// if nothing had been, and keep their connections.
func mishaps(h *vfHost) {
	c := couple{vfHost: h, a: h.netns("a"), b: h.netns("b")}
	h.cni("ADD", "a", "require")
	h.cni("ADD", "b", standby)
	c.sessions = map[string]*host.Stream{"a": h.session(c.a), "b": h.session(c.b)}
	for _, m := range []struct {
		name string
		do   func(*couple)
		anew bool // both get VFs anew
	}{
		{"the plugin is killed", (*couple).killPlugin, false},
		{"the drivers of VFs go and come", (*couple).rebindVFs, true},
		{"and patchbayd is killed over it", (*couple).killOverRebind, true},
		{"the NIC is reset", (*couple).reset, true},
		{"the driver of the NIC goes and comes", (*couple).rebindNIC, true},
	} {
		begun, from := time.Now(), h.d.Lines()
		m.do(&c)
		if m.anew {
			c.givenAnew(from)
		}
		for name, mode := range map[string]string{"a": "require", "b": standby} {
			if m.anew {
				h.says(": VF ", "bin/patchbay", "port", "show", name)
			}
			h.cni("CHECK", name, mode)
			silent, err := c.sessions[name].Longest()
			if err != nil {
				h.t.Fatalf("%s: %s: %v", m.name, name, err)
			}
			h.t.Logf("%s: %s was silent for %s", m.name, name, silent.Round(time.Millisecond))
		}
		h.mtu(c.a, 1500)
		h.reaches(c.a, h.address(c.b))
		h.t.Logf("%s: %s", m.name, time.Since(begun).Round(10*time.Millisecond))
	}
	h.cni("DEL", "a", "require")
	h.cni("DEL", "b", standby)
	h.free()
}

// port is the port of a container.
func port(container string) string {
	return vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net1", ID: container, Endpoint: "eth0"}.PortID()
}

// givenAnew waits until both have VFs again: by this patchbayd, or the one after it.
func (c *couple) givenAnew(from int) {
	c.t.Helper()
	for _, name := range []string{"a", "b"} {
		c.awaits(min(from, c.d.Lines()), "VF given anew", port(name))
	}
}

func (c *couple) killPlugin() {
	from := c.d.Lines()
	all := regexp.MustCompile(`msg="plugin started" .*pid=(\d+)`).FindAllStringSubmatch(c.d.Log(), -1)
	c.must("kill", "-9", all[len(all)-1][1])
	c.awaits(from, "plugin started")
	if strings.Contains(c.d.Log(), "VF given anew") {
		c.t.Error("VFs that are held were given anew")
	}
}

// rebind takes drivers off functions of the NIC and puts them on again at once.
func (c *couple) rebind(driver string, functions ...string) {
	c.t.Helper()
	for _, file := range []string{"unbind", "bind"} {
		for _, f := range functions {
			c.write("/sys/bus/pci/drivers/"+driver+"/"+file, f)
		}
	}
}

func (c *couple) vfs() []string {
	return []string{c.device("n0", "device/virtfn0"), c.device("n0", "device/virtfn1")}
}

func (c *couple) rebindVFs() { c.rebind("igbvf", c.vfs()...) }

func (c *couple) killOverRebind() {
	from := c.d.Lines()
	c.rebind("igbvf", c.vfs()...)
	c.awaits(from, "give back VF")
	ok(c.t, c.d.Kill())
	c.daemon()
}

func (c *couple) reset() {
	c.write("/sys/class/net/n0/device/reset", "1")
	c.must("ip", "link", "set", "n0", "down")
	c.must("ip", "link", "set", "n0", "up")
}

func (c *couple) rebindNIC() {
	from := c.d.Lines()
	c.write("/sys/bus/pci/drivers/igb/unbind", c.nic)
	c.awaits(from, "VF lost, the standby carries on", port("b"))
	for _, name := range []string{"a", "b"} {
		c.says("no plugin serves the NIC", "bin/patchbay", "port", "show", name)
	}
	c.says("requires sriov and does without", "bin/patchbay", "status")
	c.write("/sys/bus/pci/drivers/igb/bind", c.nic)
	names, err := os.ReadDir("/sys/bus/pci/devices/" + c.nic + "/net")
	ok(c.t, err)
	if name := names[0].Name(); name != "n0" {
		c.must("ip", "link", "set", name, "name", "n0")
	}
	c.must("ip", "link", "set", "n0", "up")
}

// write has the kernel do something by a file.
func (h *vfHost) write(path, text string) {
	h.t.Helper()
	ok(h.t, os.WriteFile(path, []byte(text), 0))
}

// killed: patchbayd is killed while its plugin gives or takes a VF. Those who come next find
// it as if nobody had had it.
func killed(h *vfHost) {
	a := h.netns("a")
	for _, k := range []struct{ mode, command, says string }{
		{standby, "ADD", "take VF"}, {"require", "DEL", "give back VF"},
	} {
		if k.command == "DEL" {
			h.cni("ADD", "a", k.mode)
		}
		from, done := h.d.Lines(), make(chan struct{})
		go func() {
			defer close(done)
			_, _ = h.tryCNI(k.command, "a", k.mode) // as far as it comes
		}()
		h.awaits(from, k.says)
		ok(h.t, h.d.Kill())
		<-done
		h.cni("DEL", "a", k.mode)
		h.daemon()
		h.cni("ADD", "a", "require")
		h.reaches(a, gateway)
		h.mtu(a, 1500)
		h.cni("DEL", "a", "require")
		h.free()
	}
}
