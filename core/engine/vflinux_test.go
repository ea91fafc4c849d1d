package engine_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// onWire is a host with switch prod on nic0, whose wire the test has, and with db01 at vnet1.
func (h *hypervisor) onWire() {
	h.t.Helper()
	uplink := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "nic0"}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI, Queues: 1, NonPersist: true}
	must(h.t, h.links().LinkAdd(uplink))
	h.vms["nic0"] = uplink.Fds[0] // who reads it is the network outside
	must(h.t, unix.SetNonblock(int(uplink.Fds[0].Fd()), true))
	h.t.Cleanup(func() { h.unplug("nic0") })
	_, err := h.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: external(), Yes: true})
	must(h.t, err)
	h.mustReserve(reserveDB("p1"))
	h.plug("vnet1", dbMAC, "pb-prod")
	h.mustBind(db("p1"), "vnet1")
}

// plugWeb gives web01 its tap, vnet0, and a VF or none.
func (h *hypervisor) plugWeb(team bool) {
	h.t.Helper()
	_, err := h.BindPort(context.Background(), engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0", Team: &team})
	must(h.t, err)
}

// wantByVF fails unless what is for web01 goes where its VF is, and not to its port, or otherwise.
func (h *hypervisor) wantByVF(byVF bool) {
	h.t.Helper()
	h.send("vnet1", dbMAC, webMAC, "to web01")
	at, not := "vnet0", "nic0"
	if byVF {
		at, not = not, at
	}
	h.wantHeard(at, "to web01")
	h.wantHeard(not)
}

// TestTeamOnLinux: what other ports send to a VM that goes by a VF leaves by the uplink, where the
// VF is, whatever was heard of the VM by its port; a VM without one gets it by its port.
func TestTeamOnLinux(t *testing.T) {
	h := newHypervisor(t)
	h.onWire()
	h.mustReserve(reserveWeb("p1"))
	h.plug("vnet0", webMAC, "pb-prod")
	for range 2 {
		h.plugWeb(true)
		h.send("vnet0", webMAC, everybody, "before it has its VF")
		h.send("vnet0", vswitch.MAC{2, 9, 9, 9, 9, 9}, everybody, "from nobody's address")
		h.wantHeard("vnet1", "before it has its VF")
		h.wantHeard("nic0", "before it has its VF")
		h.wantByVF(true)
		h.plugWeb(false)
		h.wantByVF(false)
	}
}

// TestVFTurnsOnLinux: a VM that has come hears by its port until it is heard by its VF; one that was
// asked to let go of the VF hears by its port when it speaks by it.
func TestVFTurnsOnLinux(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	ctx := context.Background()
	h := hypervisorHere(t)
	h.onWire()
	must(t, h.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: vm("").Domain()}))
	h.mustReserve(reserveWeb("p1"))
	h.plug("vnet0", webMAC, "pb-prod")
	h.plugWeb(true)
	h.wantByVF(true) // it is elsewhere

	keeping, stop := context.WithCancel(ctx)
	k := &keeper{lab: &lab{t: t}, more: make(chan struct{})}
	resident := engine.New(engine.Config{Kernel: kernel.NewLinux(), Store: store.New(store.Config{Dirs: h.dirs, MachineID: "machine"})})
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- resident.Keep(keeping, slog.New(slog.NewTextHandler(k, nil)), func() { close(ready) })
	}()
	<-ready
	_, err := resident.ActivateDomain(ctx, webUUID)
	must(t, err)
	h.heard("nic0")
	h.wantByVF(false)
	h.send("nic0", vswitch.MAC{2, 9, 9, 9, 9, 9}, webMAC, "from outside")
	h.wantHeard("vnet0", "from outside")
	h.send("vnet0", webMAC, everybody, "by the port")
	h.wantHeard("nic0", "by the port")
	h.wantHeard("vnet1", "by the port")
	h.wantByVF(false)
	h.speaksByVF(k)
	h.wantByVF(true)

	must(t, resident.LoosenVFs(ctx, webUUID))
	h.wantByVF(false)
	h.send("nic0", vswitch.MAC{2, 9, 9, 9, 9, 9}, webMAC, "from outside")
	h.wantHeard("vnet0", "from outside")
	h.send("nic0", webMAC, everybody, "it has the VF still")
	_, err = resident.ReturnVFs(ctx, webUUID)
	must(t, err)
	h.heard("vnet0")
	h.heard("vnet1")
	h.wantByVF(false)
	h.speaksByVF(k)
	h.wantByVF(true)
	stop()
	must(t, <-done)
}

// speaksByVF has web01 say things by its VF until the host has understood.
func (h *hypervisor) speaksByVF(k *keeper) {
	h.t.Helper()
	before, more := k.logged()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	late := time.After(patience)
	for text := before; !strings.Contains(strings.TrimPrefix(text, before), "heard=true"); text, more = k.logged() {
		h.send("nic0", webMAC, everybody, "by the VF")
		select {
		case <-more:
		case <-again.C:
		case <-late:
			h.t.Fatalf("nobody has understood:\n%s", text)
		}
	}
	h.heard("vnet0")
	h.heard("vnet1")
}
