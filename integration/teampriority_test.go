package integration_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// TestPrioritiesStayTogether sends frames of every priority from one guest in one VLAN by
// active-active teams. The priority is among the bits that bonding divides by the number
// of members: in teams of 2 and 4 it cannot matter, and docs/teams.md tells of the others.
func TestPrioritiesStayTogether(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	for members, together := range map[string]bool{"eth0,eth1": true, "eth0,eth1,eth2": false, "eth0,eth1,eth2,eth3": true} {
		t.Run(members, func(t *testing.T) {
			h := newHost(t)
			outside, err := h.Neighbour("outside")
			ok(t, err)
			var ends []*host.Tap
			for i := range 4 {
				nic, end := fmt.Sprintf("eth%d", i), fmt.Sprintf("end%d", i)
				ok(t, host.Cable(h.Netns, nic, outside, end))
				h.keeps = append(h.keeps, nic)
				ends = append(ends, h.tap(outside, end))
			}
			h.patchbay("team", "add", "team0", "--members", members, "--mode", "active-active", "--lab")
			h.patchbay("switch", "add", "wan", "--uplink", "team0", "--host-access=false")
			n := h.network(fmt.Sprintf(vlanGuest, "a", "trunk 20 native 21", 100))
			c, _ := h.attached(n, "a")
			left := map[int][]int{} // priorities by member
			from := h.tap(c.Netns, "eth0")
			for priority := range 8 {
				payload := fmt.Sprintf("priority %d", priority)
				ok(t, from.SendRaw(slices.Concat(toAll, from.MAC(), []byte{0x81, 0, byte(priority << 5), 20, 0x88, 0xb5}, []byte(payload), make([]byte, 60))))
				for i, end := range ends {
					if heard, err := end.Hears(payload, silence/4); err != nil {
						t.Fatal(err)
					} else if heard {
						left[i] = append(left[i], priority)
					}
				}
			}
			if all := slices.Concat(slices.Collect(maps.Values(left))...); len(all) != 8 || together && len(left) != 1 {
				t.Errorf("priorities left by members as %v", left)
			}
			t.Logf("%s: priorities by member: %v", members, left)
			ok(t, n.Del(c))
		})
	}
}
