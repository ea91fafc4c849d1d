package kernel

import (
	"fmt"
	"net"
	"testing"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestSpoofedFramesAreCounted: what a port sends from others' addresses is dropped and counted
// for it alone, whether the bridge drops it or nftables does.
func TestSpoofedFramesAreCounted(t *testing.T) {
	t.Run("locked", func(t *testing.T) {
		s := newSpoofer(t)
		mac := macOf(1)
		sh(t, s.host, fmt.Sprintf(`bridge fdb replace %s dev p1 master static
			bridge link set dev p1 learning off flood off
			bridge link set dev p1 locked on`, net.HardwareAddr(mac[:])))
		s.attack(t, plan.Rules{Base: true, NoNAT: true})
	})
	t.Run("guard", func(t *testing.T) {
		newSpoofer(t).attack(t, plan.Rules{Base: true, NoNAT: true, Guard: map[string]vswitch.MAC{"p1": macOf(1)}})
	})
}

// spoofer is a lab whose first guest sends from any address.
type spoofer struct {
	*lab
	from, to, third *listener
}

func newSpoofer(t *testing.T) spoofer {
	t.Helper()
	l := newLab(t, 3, vswitch.Group(1))
	return spoofer{l, listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0"), listen(t, l.guests[2], "eth0")}
}

func (s spoofer) attack(t *testing.T, rules plan.Rules) {
	t.Helper()
	apply(t, s.host, plan.SetRules{Add: rules})
	s.spoof(t, 7, 7, 8)
	s.honest(t, "at first")
	s.spoof(t, 7, 0x17, 0x27) // two more of the class of 7
	s.honest(t, "after that")
	s.counted(t, 6)
	for i := range 1000 {
		s.spoof(t, byte(i)|2)
	}
	s.honest(t, "after a flood")
	s.counted(t, 1006)
	if n := len(portCounters(t, s.host)["p1"].Sources.By); n > 16 {
		t.Errorf("a flood has left %d addresses in the set", n)
	}
	if s.to.heard(containing("spoofed")) {
		t.Errorf("spoofed frames came through:\n%s", s.to)
	}
	s.to.send(t, ethernet(broadcastMAC, macOf(2), 0x88b5, []byte("of the other")))
	s.third.await(t, "what the other sends", containing("of the other"))
	others := portCounters(t, s.host)
	if n2, n3 := others["p2"].Sources.Foreign(macOf(2)), others["p3"].Sources.Foreign(macOf(3)); n2 != 0 || n3 != 0 {
		t.Errorf("%d and %d frames are counted at p2 and p3", n2, n3)
	}

	sh(t, s.host, "nft flush ruleset")
	apply(t, s.host, plan.SetRules{Add: rules})
	s.counted(t, 0)
	s.spoof(t, 7, 8, 9)
	s.honest(t, "after a flush")
	s.counted(t, 3)
	sh(t, s.host, "ip link delete p1")
	s.plug(t, 1, vswitch.Group(1))
	s.counted(t, 0) // of the next port of that name
}

func (s spoofer) spoof(t *testing.T, from ...byte) {
	t.Helper()
	for _, n := range from {
		s.from.send(t, ethernet(broadcastMAC, macOf(n), 0x88b5, []byte("spoofed")))
	}
}

func (s spoofer) honest(t *testing.T, text string) {
	t.Helper()
	s.from.send(t, ethernet(broadcastMAC, macOf(1), 0x88b5, []byte(text)))
	s.to.await(t, text, containing(text))
}

func (s spoofer) counted(t *testing.T, want uint64) {
	t.Helper()
	if n := portCounters(t, s.host)["p1"].Sources.Foreign(macOf(1)); n != want {
		t.Errorf("%d spoofed frames are counted, want %d", n, want)
	}
}

func TestForeignFrames(t *testing.T) {
	own, other, third := vswitch.MAC(macOf(0x11)), vswitch.MAC(macOf(0x21)), vswitch.MAC(macOf(0x22))
	for name, c := range map[string]struct {
		Sources
		want uint64
	}{
		"none":                       {},
		"its own":                    {Sources{By: map[vswitch.MAC]uint64{own: 9}, More: map[vswitch.MAC]uint64{{5: 1}: 1}}, 0},
		"another":                    {Sources{By: map[vswitch.MAC]uint64{third: 9}, More: map[vswitch.MAC]uint64{{5: 2}: 1}}, 9},
		"more of its own's class":    {Sources{By: map[vswitch.MAC]uint64{own: 9}, More: map[vswitch.MAC]uint64{{5: 1}: 5}}, 4},
		"its own, or another":        {Sources{By: map[vswitch.MAC]uint64{other: 9}, More: map[vswitch.MAC]uint64{{5: 1}: 5}}, 9},
		"more of its class are gone": {Sources{By: map[vswitch.MAC]uint64{other: 9}}, 9},
		"made anew":                  {Sources{More: map[vswitch.MAC]uint64{{5: 2}: 0}}, 0},
	} {
		if got := c.Foreign(own); got != c.want {
			t.Errorf("%s: %d frames, want %d", name, got, c.want)
		}
	}
}
