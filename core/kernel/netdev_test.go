package kernel

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

var prefixes = cmpopts.EquateComparable(netip.Prefix{})

func TestNetdevs(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, `ip link add br0 address 02:00:00:00:00:b0 mtu 1400 type bridge
		ip link add eth0 address 02:00:00:00:00:01 mtu 1400 type veth peer name eth1 address 02:00:00:00:00:02 mtu 1400
		ip link set eth0 alias "first one" master br0 up; ip link set eth1 up
		ip addr add 10.0.0.1/24 dev eth1; ip addr add 10.0.0.2 peer 10.9.9.9/32 dev eth1
		ip addr add fd00::1/64 dev eth1; ip addr add fe80::9/64 dev eth1; ip addr add 169.254.1.1/16 dev eth1`)
	want := []Netdev{
		{Name: "br0", Kind: "bridge", MAC: macOf(0xb0), MTU: 1400, Ethernet: true},
		{Name: "eth0", Kind: "veth", MAC: macOf(1), MTU: 1400, Master: "br0", Alias: "first one", Up: true, Carrier: true, Ethernet: true},
		{Name: "eth1", Kind: "veth", MAC: macOf(2), MTU: 1400, Up: true, Carrier: true, Ethernet: true, Addresses: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.2/32"),
			netip.MustParsePrefix("169.254.1.1/16"), netip.MustParsePrefix("fd00::1/64"),
		}},
		{Name: "lo", MTU: 65536, Loopback: true},
	}
	maxMTU := cmpopts.IgnoreFields(Netdev{}, "Index", "Peer", "MaxMTU")
	withinRTNL(t, ns, func(c *rtnl) error {
		got, err := listNetdevs(c)
		if err != nil {
			return err
		}
		sorted := cmpopts.SortSlices(func(a, b netip.Prefix) bool { return a.String() < b.String() })
		if diff := cmp.Diff(want, got, prefixes, maxMTU, sorted); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if eth0, eth1 := got[1], got[2]; eth0.Peer != eth1.Index || eth1.Peer != eth0.Index || got[0].Peer != 0 {
			t.Errorf("ends of a pair are %d and %d, and know %d and %d", eth0.Index, eth1.Index, eth0.Peer, eth1.Peer)
		}
		free, err := listFreeNetdevs(c)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(slices.Concat(want[:1], want[2:]), free, prefixes, maxMTU, sorted); diff != "" {
			t.Errorf("without a master (-want +got):\n%s", diff)
		}
		for _, one := range got {
			alone, err := readNetdev(c, one.Name)
			if err != nil {
				return err
			}
			alone.Speed = 0 // which is known of one that is asked for alone
			if diff := cmp.Diff(one, alone, prefixes); diff != "" {
				t.Errorf("%s read alone (-want +got):\n%s", one.Name, diff)
			}
			if one.Name == "eth1" && one.MaxMTU != 65535 {
				t.Errorf("a veth's largest MTU is %d", one.MaxMTU)
			}
		}
		return nil
	})
}

// withinRTNL runs fn with a socket in a namespace.
func withinRTNL(t *testing.T, ns *os.File, fn func(*rtnl) error) {
	t.Helper()
	c, err := dialRTNLAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	within(t, ns, func() error { return fn(c) })
}

func TestReadNetdevNotFound(t *testing.T) {
	ns := newNS(t)
	withinRTNL(t, ns, func(c *rtnl) error {
		for _, name := range []string{"eth9", "", strings.Repeat("x", 16), "a/b"} {
			if _, err := readNetdev(c, name); !errors.Is(err, vswitch.NotFound) {
				t.Errorf("%q: %v", name, err)
			}
		}
		return nil
	})
}

func TestParseVFs(t *testing.T) {
	vf := func(n byte, mac vswitch.MAC) []byte {
		value := make([]byte, 36) // struct ifla_vf_mac
		binary.NativeEndian.PutUint32(value, uint32(n))
		copy(value[4:], mac[:])
		info := nl.NewRtAttr(1, nil) // IFLA_VF_INFO
		info.AddRtAttr(nl.IFLA_VF_MAC, value)
		info.AddRtAttr(nl.IFLA_VF_TX_RATE, make([]byte, 8))
		return info.Serialize()
	}
	type macs = map[int]vswitch.MAC
	tests := map[string]struct {
		list []byte
		want macs
	}{
		"none":            {nil, macs{}},
		"two":             {append(vf(0, macOf(1)), vf(1, macOf(2))...), macs{0: macOf(1), 1: macOf(2)}},
		"without address": {append(vf(0, vswitch.MAC{}), vf(1, macOf(2))...), macs{0: {}, 1: macOf(2)}},
		"cut off":         {vf(0, macOf(1))[:12], macs{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseVFs(tt.list)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// VFs without an administrative address are counted all the same.
func TestParseNumVFs(t *testing.T) {
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = 7
	message := append(header.Serialize(), nl.NewRtAttr(unix.IFLA_NUM_VF, nl.Uint32Attr(4)).Serialize()...)
	if n := parseNetdevLink(message).netdev("", nil); n.NumVFs != 4 || len(n.VFs) != 0 {
		t.Errorf("%+v", n)
	}
}

func TestDumpBeginsAgain(t *testing.T) {
	ns := newNS(t)
	withinRTNL(t, ns, func(c *rtnl) error {
		r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		resets, answers := 0, 0
		for range 2 { // a request can be sent again as it is
			if err := c.dump(r, func() { resets++ }, func([]byte) { answers++ }); err != nil {
				return err
			}
		}
		if resets != 2 || answers != 2 {
			t.Errorf("%d resets, %d answers, want 2 of each: lo twice", resets, answers)
		}
		return nil
	})
}
