package kernel

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// carryOut does one step whole or, where it fails, nothing of it.
func (f *Fake) carryOut(step plan.Step) error {
	switch s := step.(type) {
	case plan.CreateBridge:
		return f.createBridge(s.Bridge)
	case plan.SetBridge:
		return f.setBridge(s.Bridge)
	case plan.DeleteBridge:
		return f.deleteBridge(s.Name)
	case plan.CreateVeth:
		return f.createVeth(s.Port)
	case plan.SetPort:
		return f.setPort(s)
	case plan.ReleasePort:
		if link := f.host.links[s.Name]; link != nil {
			if !s.Stays {
				link.release()
			}
			if s.Ungroup {
				link.group = 0
			}
		}
		return nil
	case plan.DeleteNetdev:
		f.deleteOurs([]string{s.Name})
		return nil
	case plan.DeleteNetdevs:
		f.deleteOurs(s.Names)
		return nil
	case plan.FilterVLANs:
		return f.filterVLANs(s)
	case plan.AddFDB:
		return f.addFDB(s.Port, plan.Entry{MAC: s.MAC, VLAN: s.VLAN})
	case plan.DeleteFDB:
		f.deleteFDB(s)
		return nil
	case plan.SetLimits:
		return f.setLimits(s)
	case plan.AwaitPort:
		_, err := f.host.link(s.Name)
		return err
	case plan.RequireRules:
		if !f.rules.Base || f.rules.NoNAT && !s.NoNAT {
			return refused(vswitch.Drifted, syscall.ENOENT, "nftables table patchbay is gone")
		}
		return nil
	case plan.SetRules:
		return f.setRules(s)
	case plan.MakeTap:
		return f.makeTap(s)
	case plan.LendNetdev:
		return f.lendNetdev(s)
	case plan.ReturnNetdev:
		f.returnNetdev(s)
		return nil
	case plan.DeleteTap:
		f.deleteTap(s)
		return nil
	case plan.SetVFMAC:
		return f.setVFMAC(s)
	case plan.LetIn:
		return f.letIn(s)
	case plan.SetForwarding:
		f.onward.IPv4 = f.onward.IPv4 || s.Families.IPv4
		f.onward.IPv6 = f.onward.IPv6 || s.Families.IPv6
		return nil
	}
	return f.carryOutForTeam(step)
}

// nameFree fails if a netdev of the namespace has the name, or none can have it.
func (ns *fakeNetns) nameFree(name string) error {
	if err := vswitch.ValidateNetdevName(name); err != nil {
		return errors.Join(err, syscall.EINVAL)
	}
	if ns.links[name] != nil {
		return fmt.Errorf("netdev %s: %w", name, syscall.EEXIST)
	}
	return nil
}

func (f *Fake) createBridge(b plan.Bridge) error {
	if err := f.host.nameFree(b.Name); err != nil {
		return err
	}
	link := f.host.add(Netdev{Name: b.Name, Kind: "bridge", Ethernet: true})
	err := f.setBridge(b)
	if err != nil {
		link.remove()
	}
	link.options.VLANFiltering = b.VLANFiltering && f.caps.VLANFiltering // else the attribute is not known
	return err
}

func (f *Fake) setBridge(b plan.Bridge) error {
	link, err := f.host.bridge(b.Name)
	if err == nil {
		err = errors.Join(checkMAC(b.MAC), link.checkMTU(b.MTU))
	}
	if err != nil {
		return err
	}
	if !b.MAC.IsZero() {
		link.MAC = b.MAC
	}
	link.MTU, link.Alias, link.Up = b.MTU, b.Alias, true
	link.options = plan.Bridge{VLANFiltering: link.options.VLANFiltering, Member: link.options.Member}
	return nil
}

// deleteBridge removes a bridge; one that is not there is fine.
func (f *Fake) deleteBridge(name string) error {
	link := f.host.links[name]
	if link == nil {
		return nil
	}
	if link.Kind != "bridge" {
		return fmt.Errorf("netdev %s cannot be deleted: %w", name, syscall.EOPNOTSUPP)
	}
	link.remove()
	return nil
}

// deleteOurs leaves what is not ours as it is.
func (f *Fake) deleteOurs(names []string) {
	for _, name := range withShapers(names) {
		l := f.host.links[name]
		if l == nil || !isOurs(link{kind: l.Kind, alias: l.Alias, group: l.group}) {
			continue
		}
		l.remove()
	}
}

func (f *Fake) createVeth(p plan.Port) error {
	e := p.Endpoint
	if e == nil {
		return fmt.Errorf("a veth pair has two ends: %w", syscall.EINVAL)
	}
	ns, err := f.vethRoom(p)
	if err != nil {
		return err
	}
	link := f.host.add(Netdev{Name: p.Name, Kind: "veth", MAC: p.MAC, MTU: p.MTU, MaxMTU: vswitch.MaxMTU, Ethernet: true})
	peer := ns.add(Netdev{Name: e.Name, Kind: "veth", MAC: e.MAC, MTU: e.MTU, MaxMTU: vswitch.MaxMTU, Ethernet: true})
	link.peer, peer.peer = peer, link
	link.group = p.Group
	link.enslave(f.host.links[p.Bridge])
	return nil
}

// vethRoom checks all that can stop a pair from being made and returns the
// endpoint's namespace.
func (f *Fake) vethRoom(p plan.Port) (*fakeNetns, error) {
	e := p.Endpoint
	bridge, err := f.host.bridge(p.Bridge)
	if err != nil {
		return nil, err
	}
	ns, err := f.namespace(e.Netns)
	if err != nil {
		return nil, err
	}
	if f.host.links[p.Name] != nil {
		return nil, refused(vswitch.AlreadyExists, syscall.EEXIST, "netdev %s", p.Name)
	}
	if ns.links[e.Name] != nil || ns == f.host && e.Name == p.Name {
		return nil, refused(vswitch.EndpointExists, syscall.EEXIST, "netdev %s in the owner's namespace", e.Name)
	}
	either := &fakeLink{Netdev: Netdev{Name: p.Name}}
	err = errors.Join(f.host.nameFree(p.Name), ns.nameFree(e.Name),
		checkMAC(p.MAC), checkMAC(e.MAC), either.checkMTU(p.MTU), either.checkMTU(e.MTU))
	if err != nil {
		return nil, err
	}
	return ns, bridge.mayGrow()
}

// setPort leaves MAC, alias and group as they are where the step names none, and
// never takes a netdev down.
func (f *Fake) setPort(s plan.SetPort) error {
	p := s.Port
	link, err := f.host.link(p.Name)
	if err != nil {
		return err
	}
	if err := errors.Join(checkMAC(p.MAC), link.checkMTU(p.MTU)); err != nil {
		return err
	}
	if p.Bridge != "" {
		bridge, err := f.host.bridge(p.Bridge)
		if err == nil {
			err = errors.Join(link.mayJoin(bridge), f.mayFilter(p))
		}
		if err != nil {
			return err
		}
		link.enslave(bridge)
		link.setVLANs(p.VLANs, s.Leave)
		link.learning, link.flood = p.Learning, p.Flood
		link.isolated, link.noBroadcast, link.noMulticast = p.Isolated, p.NoBroadcast, p.NoMulticast
		link.locked = p.Locked && f.caps.PortLocked // an old kernel skips the attribute it does not know
	}
	if !p.MAC.IsZero() {
		link.setMAC(p.MAC)
	}
	if p.Alias != "" {
		link.Alias = p.Alias
	}
	if p.Group != 0 {
		link.group = p.Group
	}
	link.MTU, link.Up = p.MTU, link.Up || p.Up
	if link.Kind == "bond" {
		for _, m := range link.ports() {
			m.MTU = p.MTU
		}
	}
	return nil
}
