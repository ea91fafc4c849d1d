package integration_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// hashing is a guest behind a team, with an ear at the far end of each member's cable.
type hashing struct {
	*testHost
	from *host.Tap
	ends []*host.Tap
}

// newHashing has a team of the first members of four NICs.
func newHashing(t *testing.T, vlan string, members int, options ...string) *hashing {
	t.Helper()
	x := &hashing{testHost: newHost(t)}
	outside, err := x.Neighbour("outside")
	ok(t, err)
	list := ""
	for i := range members {
		nic, end := fmt.Sprintf("eth%d", i), fmt.Sprintf("end%d", i)
		ok(t, host.Cable(x.Netns, nic, outside, end))
		x.keeps, list = append(x.keeps, nic), list+","+nic
		x.ends = append(x.ends, x.tap(outside, end))
	}
	x.patchbay(append([]string{"team", "add", "team0", "--members", list[1:], "--lab"}, options...)...)
	x.patchbay("switch", "add", "wan", "--uplink", "team0", "--host-access=false")
	n := x.network(fmt.Sprintf(vlanGuest, "a", vlan, 100))
	c, _ := x.attached(n, "a")
	t.Cleanup(func() { ok(t, n.Del(c)) })
	x.from = x.tap(c.Netns, "eth0")
	return x
}

// leavesBy is the member that a frame of the guest leaves by, which hears must find.
func (x *hashing) leavesBy(frame []byte, hears func(*host.Tap) (bool, error)) int {
	x.t.Helper()
	ok(x.t, x.from.SendRaw(frame))
	member := -1
	for i, end := range x.ends {
		heard, err := hears(end)
		ok(x.t, err)
		if heard && member >= 0 {
			x.t.Fatal("a frame left by two members")
		} else if heard {
			member = i
		}
	}
	if member < 0 {
		x.t.Fatal("a frame left by no member")
	}
	return member
}

// TestPrioritiesStayTogether sends frames of every priority from one guest in one VLAN by
// active-active teams. The priority is among the bits that bonding divides by the number
// of members: in teams of 2 and 4 it cannot matter, and docs/teams.md tells of the others.
func TestPrioritiesStayTogether(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	for members, together := range map[int]bool{2: true, 3: false, 4: true} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			x := newHashing(t, "trunk 20 native 21", members, "--mode", "active-active")
			var by []int
			for priority := range 8 {
				payload := fmt.Sprintf("priority %d", priority)
				frame := slices.Concat(toAll, x.from.MAC(), []byte{0x81, 0, byte(priority << 5), 20, 0x88, 0xb5}, []byte(payload), make([]byte, 60))
				by = append(by, x.leavesBy(frame, func(end *host.Tap) (bool, error) { return end.Hears(payload, silence/4) }))
			}
			if same := len(slices.Compact(slices.Clone(by))) == 1; together && !same {
				t.Errorf("priorities leave by members %v", by)
			}
			t.Logf("%d members: priorities 0 to 7 leave by %v", members, by)
		})
	}
}

// TestFragmentsGoByAddresses holds what docs/teams.md says of fragments: by transport-ports
// they all leave by one member, wherever whole datagrams of the same ports do, and by
// ip-addresses both leave by the same.
func TestFragmentsGoByAddresses(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	for _, hash := range []string{"transport-ports", "ip-addresses"} {
		t.Run(hash, func(t *testing.T) {
			x := newHashing(t, "untagged", 2, "--mode", "static", "--hash", hash)
			const whole, first, last = 0, 0x2000, 185
			by := make(map[int][]int) // by kind of frame, for each port
			for port := range uint16(8) {
				for _, kind := range []int{whole, first, last} {
					frame := x.datagram(4000+port, uint16(kind))
					by[kind] = append(by[kind], x.leavesBy(frame, func(end *host.Tap) (bool, error) { return end.HearsRaw(frame, silence/4) }))
				}
			}
			spread := len(slices.Compact(slices.Sorted(slices.Values(by[whole])))) > 1
			if fragments := slices.Compact(slices.Concat(by[first], by[last])); len(fragments) != 1 || spread != (hash == "transport-ports") ||
				!spread && fragments[0] != by[whole][0] {
				t.Errorf("by members: whole %v, first fragments %v, last ones %v", by[whole], by[first], by[last])
			}
		})
	}
}

// datagram is a frame with UDP in IPv4 from a port of the guest's, or a fragment of it.
func (x *hashing) datagram(port, fragment uint16) []byte {
	b := slices.Concat([]byte{2, 0, 0, 0, 0, 9}, x.from.MAC(), []byte{8, 0, 0x45, 0})
	b = binary.BigEndian.AppendUint16(b, 20+8+32) // length
	b = binary.BigEndian.AppendUint16(b, port)    // identification
	b = binary.BigEndian.AppendUint16(b, fragment)
	b = append(b, 64, 17, 0, 0, 192, 0, 2, 100, 192, 0, 2, 1) // no member looks at the checksum
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, append([]byte{0, 9, 0, 40, 0, 0}, make([]byte, 32)...)...)
}
