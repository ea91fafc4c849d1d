package main

import (
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/integration/host"
)

// floor does what any plugin of this kind has the kernel do, one netlink request
// a step, and nothing else: no process is started, nothing is recorded, no
// address is looked for. Nothing sensible is faster by much.
type floor struct {
	bridge  int
	gateway net.IP
	handles chan *netlink.Handle // one for each worker: a shared one makes all wait for all
}

func newFloor(h *host.Host, workers int) (*floor, error) {
	f := &floor{gateway: net.IPv4(10, 1, 0, 1).To4(), handles: make(chan *netlink.Handle, workers)}
	for range workers {
		l, err := h.Links()
		if err != nil {
			return nil, err
		}
		f.handles <- l
	}
	l := <-f.handles
	defer func() { f.handles <- l }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "floor0"
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := l.LinkAdd(bridge); err != nil {
		return nil, err
	}
	f.bridge = bridge.Index
	if err := l.AddrAdd(bridge, &netlink.Addr{IPNet: f.ipNet(f.gateway)}); err != nil {
		return nil, err
	}
	return f, l.LinkSetUp(bridge)
}

func (f *floor) close() {
	for len(f.handles) > 0 {
		(<-f.handles).Close()
	}
}

func (f *floor) ipNet(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(16, 32)} }

// hostEnd names the bridge's end of a container's pair.
func hostEnd(c *host.Container) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(c.ContainerID)) // never fails
	return fmt.Sprintf("fl%08x", sum.Sum32())
}

// add: a pair whose one end is born in the container, on the bridge and up, with
// an address and the default route.
func (f *floor) add(c *host.Container) error {
	l := <-f.handles
	defer func() { f.handles <- l }()
	ns, err := os.Open(c.NetNS)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }() // read only
	id := sha256.Sum256([]byte(c.ContainerID))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = hostEnd(c)
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = c.IfName, netlink.NsFd(ns.Fd())
	pair.PeerHardwareAddr = net.HardwareAddr{2, 0xf1, id[0], id[1], id[2], id[3]}
	if err := l.LinkAdd(pair); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	if err := l.LinkSetMasterByIndex(pair, f.bridge); err != nil {
		return fmt.Errorf("master: %w", err)
	}
	if err := l.LinkSetUp(pair); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	return f.configure(netns.NsHandle(ns.Fd()), c.IfName, net.IPv4(10, 1, id[4]|1, id[5]).To4())
}

func (f *floor) configure(ns netns.NsHandle, name string, ip net.IP) error {
	l, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer l.Close()
	link, err := l.LinkByName(name)
	if err != nil {
		return err
	}
	if err := l.AddrAdd(link, &netlink.Addr{IPNet: f.ipNet(ip)}); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if err := l.LinkSetUp(link); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	return l.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: f.gateway})
}

func (f *floor) del(c *host.Container) error {
	l := <-f.handles
	defer func() { f.handles <- l }()
	link, err := l.LinkByName(hostEnd(c))
	if err != nil {
		return err
	}
	return l.LinkDel(link)
}
