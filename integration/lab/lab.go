// Package lab builds the scene that the demo shows and a test checks: a host
// with one NIC, an External, an Internal and a Private switch with two containers
// each, and an outside network with a server.
//
//	outside 192.0.2.1 ── eth0 ┬ External "lan" ┬ lan-a
//	                          │                └ lan-b
//	                       the host 192.0.2.2
//	                          │                ┌ nat-a
//	                          └ Internal "nat" ┴ nat-b       (gateway, masquerade)
//
//	                            Private "box"  ┬ box-a
//	                                           └ box-b
package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/patchbay-net/patchbay/integration/host"
)

// Networks are the CNI configuration lists of the scene, by switch.
const (
	LAN = `{"cniVersion": "1.1.0", "name": "lan", "plugins": [{"type": "patchbay",
  "switch": {"name": "lan", "type": "external", "uplink": "eth0"},
  "ipam": {"type": "patchbay",
    "ranges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.10", "gateway": "192.0.2.1"}],
               [{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::10", "gateway": "2001:db8::1"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}`
	NAT = `{"cniVersion": "1.1.0", "name": "nat", "plugins": [{"type": "patchbay",
  "switch": {"name": "nat", "type": "internal", "gateway": ["10.0.0.1/24", "fd00:10::1/64"], "masquerade": true},
  "ipam": {"type": "patchbay",
    "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00:10::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}`
	Box = `{"cniVersion": "1.1.0", "name": "box", "plugins": [{"type": "patchbay",
  "switch": {"name": "box", "type": "private"},
  "ipam": {"type": "patchbay",
    "ranges": [[{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.2"}], [{"subnet": "fd00:9::/64", "rangeStart": "fd00:9::2"}]]}}]}`
)

// Point is where packets come from and go to.
type Point struct {
	Name   string
	Switch string // of a container
	Netns  *host.Netns
	// Addresses is the point's IPv4 and IPv6 address as others know it. The host
	// has one for each switch.
	Addresses map[string][]netip.Addr
}

// Lab is the scene, built.
type Lab struct {
	Host       *host.Host
	Points     []Point
	Containers []*host.Container
	Networks   map[string]*host.Network
}

// anywhere is the key of addresses that are the same for all who ask.
const anywhere = ""

// Build makes the scene on a fresh host, through the CNI plugin.
func Build(h *host.Host) (*Lab, error) {
	l := &Lab{Host: h, Networks: map[string]*host.Network{}}
	outside, err := h.Neighbour("outside")
	if err != nil {
		return nil, err
	}
	if err := host.Cable(h.Netns, "eth0", outside, "wan"); err != nil {
		return nil, err
	}
	for _, n := range []struct{ name, conflist string }{{"lan", LAN}, {"nat", NAT}, {"box", Box}} {
		if l.Networks[n.name], err = h.Network(n.conflist); err != nil {
			return nil, fmt.Errorf("network %s: %w", n.name, err)
		}
		for _, suffix := range []string{"a", "b"} {
			if err := l.attach(n.name, n.name+"-"+suffix); err != nil {
				return nil, err
			}
		}
	}
	return l, l.address(outside)
}

func (l *Lab) attach(network, id string) error {
	c, err := l.Host.Container(id)
	if err != nil {
		return err
	}
	result, err := l.Networks[network].Add(c)
	if err != nil {
		return fmt.Errorf("attach %s: %w", id, err)
	}
	p := Point{Name: id, Switch: network, Netns: c.Netns, Addresses: map[string][]netip.Addr{}}
	for _, ip := range result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return fmt.Errorf("attach %s: no address in the result: %v", id, ip)
		}
		p.Addresses[anywhere] = append(p.Addresses[anywhere], addr.Unmap())
	}
	if len(result.IPs) != 2 {
		return fmt.Errorf("attach %s: %d addresses, want IPv4 and IPv6", id, len(result.IPs))
	}
	l.Points, l.Containers = append(l.Points, p), append(l.Containers, c)
	return nil
}

// address gives the host its own addresses on the External switch and the
// outside server its. On the Private switch the host is made to try its best: it
// puts addresses on the bridge device itself.
func (l *Lab) address(outside *host.Netns) error {
	for _, x := range []struct {
		at     *host.Netns
		netdev string
		addrs  []string
	}{
		{l.Host.Netns, "pbh-lan", []string{"192.0.2.2/24", "2001:db8::2/64"}},
		{outside, "wan", []string{"192.0.2.1/24", "2001:db8::1/64"}},
		{l.Host.Netns, "pb-box", []string{"10.9.0.1/24", "fd00:9::1/64"}},
	} {
		for _, a := range x.addrs {
			_, err := x.at.Run("ip", "addr", "add", a, "dev", x.netdev, "nodad")
			if err != nil && x.netdev != "pb-box" { // a bridge that refuses addresses is closed all the more
				return err
			}
		}
	}
	known := func(v4, v6 string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
	}
	l.Points = append(l.Points,
		Point{Name: "host", Netns: l.Host.Netns, Addresses: map[string][]netip.Addr{
			anywhere: known("192.0.2.2", "2001:db8::2"),
			"nat":    known("10.0.0.1", "fd00:10::1"),
			"box":    known("10.9.0.1", "fd00:9::1"),
		}},
		Point{Name: "outside", Netns: outside, Addresses: map[string][]netip.Addr{anywhere: known("192.0.2.1", "2001:db8::1")}})
	return nil
}

// Dismantle detaches all containers and deletes the switches, so that nothing of
// Patchbay is left.
func (l *Lab) Dismantle() error {
	for _, c := range l.Containers {
		if err := l.Networks[c.ContainerID[:3]].Del(c); err != nil {
			return fmt.Errorf("detach %s: %w", c.ContainerID, err)
		}
	}
	for name := range l.Networks {
		if _, err := l.Host.Patchbay("switch", "delete", name); err != nil {
			return err
		}
	}
	return nil
}

// Plugin is the path of the CNI plugin that the scene is built with.
func (l *Lab) Plugin() string { return filepath.Join(l.Host.Root, "bin/cni/patchbay") }
