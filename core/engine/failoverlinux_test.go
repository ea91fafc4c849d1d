package engine_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// oneVF is a NIC with one VF, vf0. Its switch is a bridge, its VF the end of a pair: to a
// container the one is as good as the other.
type oneVF struct {
	t     *testing.T
	holds map[vswitch.OffloadRef]vswitch.OffloadGrant
}

func (v *oneVF) Look(context.Context) vswitch.OffloadInventory {
	nic := vswitch.OffloadNIC{Plugin: "card", ID: "card0", Netdev: "nic0", Link: true}
	nic.Capabilities.SRIOV = vswitch.Capability{Capacity: 1}
	return vswitch.OffloadInventory{NICs: []vswitch.OffloadNIC{nic}}
}

func (v *oneVF) Ensure(_ context.Context, _ string, r vswitch.OffloadRequest) (vswitch.OffloadGrant, error) {
	if _, has := v.holds[r.OffloadRef]; !has && len(v.holds) > 0 {
		return vswitch.OffloadGrant{}, &vswitch.Denied{Reason: vswitch.NoFreeVF}
	}
	if vf, err := links(v.t).LinkByName("vf0"); err == nil {
		must(v.t, links(v.t).LinkSetHardwareAddr(vf, r.MAC[:]))
	}
	g := vswitch.OffloadGrant{OffloadRef: r.OffloadRef, NIC: r.NIC, Generation: r.Generation, Amount: 1, VF: &vswitch.OffloadVF{Netdev: "vf0"}}
	v.holds[r.OffloadRef] = g
	return g, nil
}

func (v *oneVF) Release(_ context.Context, _ string, ref vswitch.OffloadRef, _ uint64) error {
	delete(v.holds, ref)
	return nil
}

func (v *oneVF) Grants(context.Context, string) (all []vswitch.OffloadGrant, err error) {
	for _, g := range v.holds {
		all = append(all, g)
	}
	return all, nil
}

func (v *oneVF) Watch(ctx context.Context, _ func(string)) { <-ctx.Done() }

// links speaks of netdevs in the namespace of the thread.
func links(t *testing.T) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandle()
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

// at runs do in a namespace.
func at(t *testing.T, netns string, do func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(netns)
		if err == nil {
			defer func() { _ = ns.Close() }()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	must(t, <-done)
}

// plugInto makes a pair, of a netdev here or in another namespace and of a port of the
// NIC's switch.
func plugInto(t *testing.T, card, netdev, port string) {
	t.Helper()
	must(t, links(t).LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: netdev, MTU: 1500}, PeerName: port}))
	ns, err := os.Open(card)
	must(t, err)
	defer func() { _ = ns.Close() }()
	peer, err := links(t).LinkByName(port)
	must(t, err)
	must(t, links(t).LinkSetNsFd(peer, int(ns.Fd())))
	at(t, card, func() error {
		embedded, err := links(t).LinkByName("embedded")
		must(t, err)
		peer, err := links(t).LinkByName(port)
		must(t, err)
		must(t, links(t).LinkSetMaster(peer, embedded))
		return links(t).LinkSetUp(peer)
	})
}

// dialogue is a TCP connection to a container, whose other end says everything back.
type dialogue struct {
	t    *testing.T
	name string
	net.Conn
}

func talk(t *testing.T, name, from, to string, addr netip.AddrPort) dialogue {
	t.Helper()
	var conn net.Conn
	at(t, to, func() error {
		l, err := net.Listen("tcp4", addr.String())
		if err == nil {
			go func() {
				defer func() { _ = l.Close() }()
				if c, err := l.Accept(); err == nil {
					_, _ = io.Copy(c, c)
					_ = c.Close()
				}
			}()
		}
		return err
	})
	at(t, from, func() (err error) {
		conn, err = net.DialTimeout("tcp4", addr.String(), 10*time.Second)
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return dialogue{t, name, conn}
}

// goesOn fails unless what is said comes back before long.
func (d dialogue) goesOn(when string) {
	d.t.Helper()
	must(d.t, d.SetDeadline(time.Now().Add(patience)))
	said := []byte(when)
	_, err := d.Write(said)
	if err == nil {
		_, err = io.ReadFull(d.Conn, said)
	}
	if err != nil {
		d.t.Errorf("from %s, %s: %v", d.name, when, err)
	}
}

// activeOf is the member that a container's bond carries all by.
func activeOf(t *testing.T, netns string) (name string) {
	t.Helper()
	at(t, netns, func() error {
		bond, err := links(t).LinkByName("eth0")
		if err != nil {
			return err
		}
		active, err := links(t).LinkByIndex(bond.(*netlink.Bond).ActiveSlave)
		if err == nil {
			name = active.Attrs().Name
		}
		return err
	})
	return name
}

// Connections to a container with a standby go on when its VF is given to another one, when
// it comes back and when it is gone for good; DEL leaves nothing, whatever it knows.
func TestFailoverOnLinux(t *testing.T) {
	guest.Needs(t, guest.Bonding)
	ctx := context.Background()
	card, outside := newNetns(t), newNetns(t)
	runtime.LockOSThread() // the thread is in another namespace from now on and ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	at(t, card, func() error {
		must(t, links(t).LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "embedded"}}))
		embedded, err := links(t).LinkByName("embedded")
		must(t, err)
		return links(t).LinkSetUp(embedded)
	})
	plugInto(t, card, "nic0", "pf")
	plugInto(t, card, "vf0", "vf")
	at(t, outside, func() error {
		plugInto(t, card, "eth0", "wire")
		nic, err := links(t).LinkByName("eth0")
		must(t, err)
		must(t, links(t).AddrAdd(nic, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(24, 32)}}))
		return links(t).LinkSetUp(nic)
	})
	e := engine.New(engine.Config{
		Kernel: kernel.NewLinux(), Hardware: &oneVF{t, make(map[vswitch.OffloadRef]vswitch.OffloadGrant)},
		Store: store.New(store.Config{Dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, MachineID: "machine"}),
	})
	_, err := e.AddSwitch(ctx, engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "wan", Uplink: "nic0", SRIOV: true}})
	must(t, err)
	attach := func(i int, addr string, wish vswitch.SRIOVChange) vswitch.Port {
		t.Helper()
		o := owner(i)
		o.Netns = newNetns(t)
		a, err := e.Attach(ctx, engine.AttachRequest{
			Owner: o, Switch: "wan", Policy: vswitch.PolicyChange{Offload: vswitch.OffloadChange{SRIOV: wish}},
			Addresses: []vswitch.Address{{Prefix: netip.MustParsePrefix(addr)}},
		})
		must(t, err)
		return a.Port
	}
	on := true
	p := attach(0, "10.0.0.5/24", vswitch.SRIOVChange{Weight: ptr(50), Failover: &on})
	pair, vf := p.BondMembers()
	neighbour := attach(1, "10.0.0.6/24", vswitch.SRIOVChange{})
	far := talk(t, "outside", outside, p.Owner.Netns, netip.MustParseAddrPort("10.0.0.5:7001"))
	near := talk(t, "a port of the switch", neighbour.Owner.Netns, p.Owner.Netns, netip.MustParseAddrPort("10.0.0.5:7002"))
	wants := func(when, active string) {
		t.Helper()
		if is := activeOf(t, p.Owner.Netns); is != active {
			t.Errorf("%s it works by %s, not by %s", when, is, active)
		}
		far.goesOn(when)
		near.goesOn(when)
	}
	wants("with the VF", vf)
	check := func(when string) {
		t.Helper()
		if c, err := e.Check(ctx, p.Owner); err != nil || len(c.Steps) > 0 {
			t.Errorf("%s CHECK says %v, %v", when, c.Steps, err)
		}
	}
	check("with the VF")
	require := vswitch.OffloadRequire
	heavier := attach(2, "10.0.0.7/24", vswitch.SRIOVChange{Mode: &require})
	if heavier.VF != "vf0" {
		t.Fatalf("the heavier one has %q", heavier.VF)
	}
	wants("when another one has the VF", pair)
	must(t, e.Detach(ctx, heavier.Owner))
	_, err = e.SetPort(ctx, p.ID, engine.PortChange{Policy: vswitch.PolicyChange{Offload: vswitch.OffloadChange{SRIOV: vswitch.SRIOVChange{Weight: ptr(60)}}}})
	must(t, err)
	wants("with the VF again", vf)
	check("with the VF again")
	at(t, p.Owner.Netns, func() error {
		link, err := links(t).LinkByName(vf)
		must(t, err)
		return links(t).LinkDel(link)
	})
	wants("when the VF is gone", pair)
	forgetful := engine.New(engine.Config{
		Kernel: kernel.NewLinux(), Store: store.New(store.Config{Dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, MachineID: "machine"}),
	})
	must(t, forgetful.Detach(ctx, p.Owner))
	at(t, p.Owner.Netns, func() error {
		all, err := links(t).LinkList()
		for _, l := range all {
			if l.Attrs().Name != "lo" && l.Attrs().Name != "bond0" { // the module's own
				t.Errorf("DEL without a record has left %s", l.Attrs().Name)
			}
		}
		return err
	})
	must(t, e.Detach(ctx, p.Owner))
}
