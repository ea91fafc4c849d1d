package follow_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/follow"
)

const webVF = "0000:01:10.0"

// runTeam is run with a VF besides, as libvirt shows one that a network has given.
func (l *lab) runTeam() {
	l.run()
	mac, _ := vswitch.ParseMAC(webMAC)
	l.kernel.AddNetdev(kernel.Netdev{Name: "eth1", Index: 2, MTU: 1500, Ethernet: true, Up: true, Carrier: true})
	l.kernel.AddVF(webVF, kernel.VF{PF: "eth1", Index: 3, MAC: mac})
	l.kernel.AddVF("0000:01:10.2", kernel.VF{PF: "eth1", Index: 4, MAC: mac})
	l.web.devices = fmt.Sprintf(`<interface type='hostdev' managed='yes'><mac address='%s'/><driver name='vfio'/><source>
		<address type='pci' domain='0x0000' bus='0x01' slot='0x10' function='0x0'/></source>
		<teaming type='transient' persistent='ua-web'/><alias name='ua-web-vf'/><address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></interface>`, webMAC)
}

// qemu tells what QEMU tells of web01.
func (l *lab) qemu(events ...follow.Event) {
	l.t.Helper()
	for _, e := range events {
		e.Domain = webUUID
		l.told(e, func() {})
	}
}

func asked(device string) follow.Event { return follow.Event{Unplugs: device} }
func state(s string) follow.Event      { return follow.Event{Migration: s} }

// wantVF fails unless the VF is away, or not, to its NIC and by its port alike.
func (l *lab) wantVF(away, noted bool) {
	l.t.Helper()
	vf, err := l.kernel.VF(l.t.Context(), webVF)
	if err != nil || vf.MAC.IsZero() != away {
		l.t.Errorf("the NIC holds %s for the VF, %v", vf.MAC, err)
	}
	if is := l.ports()[0].VM.VFAway; (is == webVF) != noted || is != "" && !noted {
		l.t.Errorf("the port says that VF %q is away", is)
	}
	if other, _ := l.kernel.VF(l.t.Context(), "0000:01:10.2"); other.MAC.IsZero() {
		l.t.Error("another VF's address is gone")
	}
}

// TestTeamMigrates: the NIC forgets the address when the guest has let go of the VF, and holds it
// again when the guest gets the VF back.
func TestTeamMigrates(t *testing.T) {
	away := []follow.Event{state("setup"), asked("ua-web-vf"), state("wait-unplug"), state("active")}
	t.Run("and is gone", func(t *testing.T) {
		tried(t, (*lab).runTeam, func(l *lab) {
			l.qemu(away[:3]...)
			l.wantVF(false, false) // the guest has it still
			if turn := l.ports()[0].VM.VFTurn; turn != vswitch.VFLeaves {
				t.Errorf("the guest lets go of it: %q", turn)
			}
			l.qemu(away[3])
			l.wantVF(true, true)
			if want := "domain=web01 vf=" + webVF; !strings.Contains(l.log.String(), want) {
				t.Errorf("the log does not have %s", want)
			}
			l.libvirt.mu.Lock()
			l.web.leaving = follow.Moves
			l.libvirt.mu.Unlock()
			l.told(follow.Event{Domain: webUUID}, func() {})
			l.wantVF(true, true)
			l.qemu(state("completed"))
			l.wantVF(true, true)
			l.told(follow.Event{Domain: webUUID}, func() { l.web.leaving = follow.Stays })
			l.wantVF(true, true) // QEMU does not give it back to a guest that goes on all the same
			l.stop()
			l.start() // and a new patchbayd does not either
			l.wantVF(true, true)
			l.qemu(state("setup"), state("failed"))
			l.wantVF(false, false) // but after another migration, which fails, it does
		})
	})
	for _, end := range []string{"cancelling", "cancelled", "failing", "failed"} {
		t.Run("and is "+end, func(t *testing.T) {
			tried(t, (*lab).runTeam, func(l *lab) {
				l.qemu(away...)
				l.qemu(state(end))
				l.wantVF(false, false)
				l.qemu(away...) // and again
				l.wantVF(true, true)
			})
		})
	}
	t.Run("and is cancelled before", func(t *testing.T) {
		tried(t, (*lab).runTeam, func(l *lab) {
			l.qemu(asked("ua-web-vf"), state("cancelled"), state("active"))
			l.wantVF(false, false)
		})
	})
}

// TestTeamForms: a VF that is plugged in or out while the domain runs makes a team of it, or none.
func TestTeamForms(t *testing.T) {
	tried(t, (*lab).runTeam, func(l *lab) {
		vf := l.web.devices
		for range 2 {
			if p := l.ports()[0]; !p.GoesByVF() || strings.Contains(l.kernel.String(), "bridge fdb "+webMAC) {
				t.Errorf("with a VF the port is %+v:\n%s", p.VM, l.kernel)
			}
			l.told(follow.Event{Domain: webUUID}, func() { l.web.devices = "" })
			if p := l.ports()[0]; p.VM.Team || !strings.Contains(l.kernel.String(), "bridge fdb "+webMAC) {
				t.Errorf("without one the port is %+v:\n%s", p.VM, l.kernel)
			}
			l.told(follow.Event{Domain: webUUID}, func() { l.web.devices = vf })
		}
	})
}

// TestTeamIsKept: libvirt changes the link of a team's interface (`virsh update-device`), and makes and deletes a port
// for that which never has a tap.
func TestTeamIsKept(t *testing.T) {
	tried(t, (*lab).runTeam, func(l *lab) {
		mac, _ := vswitch.ParseMAC(webMAC)
		moment := webOwner(webPort)
		moment.Endpoint = "5b2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b99"
		if _, err := l.ReservePort(t.Context(), engine.ReservePortRequest{Owner: moment, Switch: "lan", MAC: mac}); err != nil {
			t.Fatal(err)
		}
		if err := l.ReleasePort(t.Context(), moment); err != nil {
			t.Fatal(err)
		}
		if p := l.ports()[0]; !p.GoesByVF() || strings.Contains(l.kernel.String(), "bridge fdb "+webMAC) {
			t.Errorf("the port has lost that it is a team's: %+v\n%s", p.VM, l.kernel)
		}
	})
}

// TestTeamUnheard: what QEMU has told while nobody listened is seen by how far the domain is.
func TestTeamUnheard(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after follow.Leaving
		away          bool
	}{
		"the migration has failed": {follow.Moves, follow.Stays, false},
		"it has begun":             {follow.Stays, follow.Moves, true},
		"it is about to begin":     {follow.Stays, follow.Leaves, false},
		"it goes on":               {follow.Moves, follow.Moves, true},
		"nobody knows":             {follow.Moves, follow.Leaves, true},
	} {
		t.Run(name, func(t *testing.T) {
			tried(t, func(l *lab) { l.runTeam(); l.web.leaving = tc.before }, func(l *lab) {
				if tc.before == follow.Stays {
					l.qemu(state("setup"), state("active"), state("completed")) // it has come from another host
				}
				l.wantVF(tc.before == follow.Moves, tc.before == follow.Moves)
				l.libvirt.mu.Lock()
				lost := l.libvirt.lost
				l.web.leaving = tc.after
				l.libvirt.mu.Unlock()
				lost()
				l.pass(2 * time.Second)
				l.wantVF(tc.away, tc.away)
			})
		})
	}
}

// TestTeamIsNotKeptWaiting: all the host's domains are being listed, which takes a while.
func TestTeamIsNotKeptWaiting(t *testing.T) {
	tried(t, (*lab).runTeam, func(l *lab) {
		busy := make(chan struct{})
		l.libvirt.mu.Lock()
		l.libvirt.busy = busy
		l.libvirt.mu.Unlock()
		l.follower.Changed("")
		synctest.Wait()
		l.qemu(asked("ua-web-vf"), state("active"))
		l.wantVF(true, true)
		l.qemu(state("failed"))
		l.wantVF(false, false)
		close(busy)
	})
}

// TestOtherDevices: what is no VF of a team with a port of ours is left alone, with a reason where
// a user may wonder.
func TestOtherDevices(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(*lab)
		says   string
	}{
		"none of the definition": {func(l *lab) { l.web.devices = "" }, "no VF of a team by the VM's definition"},
		"of another team": {func(l *lab) {
			l.web.devices = strings.Replace(l.web.devices, "persistent='ua-web'", "persistent='ua-other'", 1)
		}, ""},
		"no VF": {func(l *lab) {
			l.web.devices = strings.Replace(l.web.devices, "slot='0x10'", "slot='0x11'", 1)
		}, "0000:01:11.0 is no VF"},
		"with another address": {func(l *lab) {
			l.kernel.AddVF(webVF, kernel.VF{PF: "eth1", Index: 3, MAC: vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 9}})
		}, "52:54:00:aa:00:09"},
	} {
		t.Run(name, func(t *testing.T) {
			tried(t, func(l *lab) { l.runTeam(); tc.before(l) }, func(l *lab) {
				l.qemu(asked("ua-web-vf"), state("active"))
				if vf, err := l.kernel.VF(t.Context(), webVF); err != nil || vf.MAC.IsZero() {
					t.Errorf("its address is gone: %v", err)
				}
				if logged := strings.Contains(l.log.String(), "WARN"); logged != (tc.says != "") || !strings.Contains(l.log.String(), tc.says) {
					t.Errorf("it says:\n%s", l.log.String())
				}
			})
		})
	}
}

// TestDeaf: a patchbayd that does not hear QEMU says so.
func TestDeaf(t *testing.T) {
	tried(t, func(l *lab) { l.libvirt.deaf = errors.New("no libvirt-qemu.so.0") }, func(l *lab) {
		if s := l.follower.Status(); s[0].Deaf != "no libvirt-qemu.so.0" || !strings.Contains(l.log.String(), "no libvirt-qemu.so.0") {
			t.Errorf("status: %+v", s)
		}
	})
}
