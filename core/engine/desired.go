package engine

import (
	"fmt"
	"maps"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file says what records mean in the kernel, and does nothing else.

// switchState is what a switch consists of, without its guests' ports and without
// rules, which are the host's as a whole.
func switchState(r store.SwitchRecord, caps kernel.Capabilities, carried vswitch.VLANSet) plan.State {
	bridge := vswitch.BridgeName(r.Name)
	s := plan.State{
		Bridges: map[string]plan.Bridge{bridge: {
			Name: bridge, MAC: r.BridgeMAC, MTU: r.EffectiveMTU, Up: true,
			Alias: vswitch.Alias("bridge", r.Name, ""), VLANFiltering: caps.VLANFiltering,
		}},
		Ports: make(map[string]plan.Port),
	}
	if r.Uplink != "" {
		// The way to every address that is no port's: the only port that floods.
		// It learns nothing: a reflected frame must not move a guest to it.
		s.Ports[r.Uplink] = plan.Port{
			Name: r.Uplink, Bridge: bridge, Group: vswitch.UplinkGroup, MTU: r.EffectiveMTU, Up: true, Flood: true,
			VLANs: carrying(r, caps, carried),
		}
		s.Shares = map[string]plan.Sharing{r.Uplink: {}} // as Mirrors
	}
	if r.HostPort() {
		p := hostPort(r)
		state := portState(p, r, caps)
		state.Endpoint.Alias = vswitch.Alias("host", r.Name, "")
		state.Endpoint.NoLinkLocal = r.Host == store.HostOnPort // the NIC's own moves here
		s.Ports[p.Netdev] = state
	}
	s.Forward.IPv4, s.Forward.IPv6 = r.GatewayFamilies()
	s.Mirrors = map[string]plan.Mirrors{bridge: nil} // as far as this knows: see addJoint
	return s
}

// hostPort is the port whose owner is the host.
func hostPort(r store.SwitchRecord) vswitch.Port {
	p := vswitch.Port{
		Switch: r.Name,
		Owner:  vswitch.Owner{Kind: vswitch.OwnerHost, ID: r.Name, Endpoint: vswitch.HostPortName(r.Name)},
		MAC:    r.HostMAC, MTU: r.EffectiveMTU, Policy: r.HostPolicy, Created: r.Created,
	}
	p.ID = p.Owner.PortID()
	p.Netdev = p.ID
	if r.VLAN != 0 {
		p.VLAN = vswitch.AccessVLAN(r.VLAN)
	}
	for _, g := range r.Gateway {
		p.Addresses = append(p.Addresses, vswitch.Address{Prefix: g})
	}
	return p
}

// portState is what a port consists of.
func portState(p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities) plan.Port {
	state := plan.Port{
		Name: p.Netdev, Bridge: vswitch.SegmentName(r.Name, p.Segment), Group: vswitch.Group(r.Number), MTU: p.MTU, Up: true,
		Learning: p.MACSpoofing, Flood: p.MACSpoofing, Locked: !p.MACSpoofing && caps.PortLocked,
		FDB: []vswitch.MAC{p.MAC}, Isolated: apart(p), Limits: limits(p),
	}
	if caps.VLANFiltering {
		state.VLANs = p.VLAN.Membership(r.UntaggedVLAN())
	}
	if p.VF != "" {
		// Its frames come by the uplink while the VF works. Where the bond goes by the pair, what
		// it says then is learnt, also while nobody else notices.
		state.FDB, state.Locked, state.Learning = nil, false, true
	}
	if !p.Speaks() {
		// Nothing points here, so that all that is for the VM goes where it runs. Its own first
		// frame is learnt: it says before anybody else that the VM is here.
		state.FDB, state.Locked, state.Learning = nil, false, true
	}
	if p.GoesByVF() {
		// What was learnt of the guest before it had the VF would stay for minutes.
		state.FDB, state.Locked, state.Learning = nil, false, false
	}
	if p.Adopted {
		return state
	}
	state.MAC = vswitch.DerivedMAC("port", p.ID, r.BridgeMAC.String())
	state.Alias = portAlias(p)
	end := ownersEnd(p)
	if p.Failover {
		pair, _ := p.BondMembers()
		end = memberOf(end, pair)
	}
	state.Endpoint = &end
	return state
}

// memberOf is an end that a container has behind a bond which takes its place.
func memberOf(bond plan.Endpoint, name string) plan.Endpoint {
	return plan.Endpoint{Netns: bond.Netns, Name: name, MAC: bond.MAC, MTU: bond.MTU, Up: true, Bond: bond.Name}
}

// failoverState is the bond of a port with failover, and its VF if it has one.
func failoverState(p vswitch.Port) (s plan.State) {
	if !p.Failover {
		return s
	}
	if p.VF != "" {
		s = lentState(p)
	}
	s.Twins = map[string]plan.Endpoint{p.ID: ownersEnd(p)}
	return s
}

// lentState is a port that is a VF, in its owner's namespace. What the switch does for other
// ports its NIC does for this one.
func lentState(p vswitch.Port) plan.State {
	e := ownersEnd(p)
	if p.Failover {
		_, vf := p.BondMembers()
		e = memberOf(e, vf)
	}
	e.Alias = "patchbay-vf: port=" + p.ID
	return plan.State{Lent: map[string]plan.Lent{p.ID: {Netdev: p.VF, Endpoint: e}}}
}

// lostState is all that there may be of a port without a record: a pair, and where the owner
// is known a VF, or a bond and a VF in it. A VF goes home under a name that no other has.
func lostState(p vswitch.Port) plan.State {
	s := plan.State{Ports: map[string]plan.Port{p.ID: {Name: p.ID, Endpoint: &plan.Endpoint{}}}}
	if p.Owner.Netns == "" {
		return s
	}
	p.Netdev = p.ID
	_, p.VF = p.BondMembers()
	alone := lentState(p).Lent[p.ID]
	p.Failover = true
	s = plan.Union(s, failoverState(p))
	s.Lent[p.ID+" alone"] = alone
	return s
}

// ownersEnd is what a container has of its port.
func ownersEnd(p vswitch.Port) plan.Endpoint {
	e := plan.Endpoint{Netns: p.Owner.Netns, Name: p.Owner.Endpoint, MAC: p.MAC, MTU: p.MTU, Up: true, Routes: p.Routes}
	for _, a := range p.Addresses {
		e.Addresses = append(e.Addresses, plan.Address{Prefix: a.Prefix, NoDAD: !a.DAD})
	}
	return e
}

func portAlias(p vswitch.Port) string {
	if p.Owner.Kind == vswitch.OwnerHost {
		return vswitch.Alias("port", p.Switch, "host")
	}
	return vswitch.Alias("port", p.Switch, fmt.Sprintf("%s network=%s id=%s", p.Owner.Kind, p.Owner.Network, p.Owner.ID))
}

// portRules are the rules of one port: none, but where the kernel cannot lock it, of one
// that does not hear all others, and of one whose frames come back to the uplink.
func portRules(p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities) plan.Rules {
	if !p.Plugged() {
		return plan.Rules{}
	}
	rules := plan.Rules{Own: ownOf(p, r, caps)}
	if !p.MACSpoofing && (!caps.PortLocked || (!p.Speaks() || p.VF != "" || p.GoesByVF()) && caps.BridgeRules) {
		rules.Guard = map[string]vswitch.MAC{p.Netdev: p.MAC}
	}
	if apart(p) && caps.BridgeRules {
		rules.Apart = map[string]bool{p.Netdev: true}
	}
	rules.Guards, rules.ACLs, rules.Priority = guardRules(p), aclRules(p), priorityRules(p, caps)
	return rules
}

// attachedState is one port with its rules and its entry at the root of the switch,
// ready for Diff with what is around it. A port without a netdev is nothing at all.
func attachedState(p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities) plan.State {
	if p.OnVF() {
		return lentState(p)
	}
	if !p.Plugged() {
		return plan.State{}
	}
	return plan.Union(plan.State{
		Ports: map[string]plan.Port{p.Netdev: portState(p, r, caps)},
		Rules: portRules(p, r, caps),
	}, plan.Union(entryState(p, r, caps), failoverState(p)))
}

// hostRules are the rules of all switches: one table serves them all, and when a
// stranger has flushed it, all of them are restored.
func hostRules(records []store.SwitchRecord, caps kernel.Capabilities) plan.Rules {
	if len(records) == 0 || !caps.BridgeRules {
		return plan.Rules{}
	}
	rules := plan.Rules{
		Base:       true,
		NoNAT:      !caps.NAT,
		Masquerade: make(map[string]plan.Families),
		Quiet:      make(map[uint32]bool),
		Router:     make(map[uint32]vswitch.MAC),
		Host:       make(map[vswitch.MAC]bool),
		Guard:      make(map[string]vswitch.MAC),
		Apart:      make(map[string]bool),
		Priority:   make(map[string]bool),
		Closed:     make(map[plan.Inlet]bool),
		Guards:     make(map[string]plan.Guards),
		ACLs:       make(map[string]plan.ACL),
	}
	for _, r := range records {
		group := vswitch.Group(r.Number)
		if r.Type != vswitch.External {
			rules.Quiet[group] = true
		}
		if r.Uplink != "" && caps.VLANFiltering {
			rules.Closed[plan.Inlet{Netdev: r.Uplink, VLAN: r.UntaggedVLAN()}] = true
		}
		if _, ipv6 := r.GatewayFamilies(); ipv6 {
			rules.Router[group] = r.HostMAC
		}
		if m := r.EffectiveMasquerade(); !m.IsZero() && caps.NAT {
			rules.Masquerade[vswitch.HostPortName(r.Name)] = plan.Families(m)
		}
		if r.HostPort() {
			rules.Host[r.HostMAC] = true
			of := portRules(hostPort(r), r, caps)
			maps.Copy(rules.Guard, of.Guard)
			maps.Copy(rules.Guards, of.Guards)
			maps.Copy(rules.ACLs, of.ACLs)
			maps.Copy(rules.Priority, of.Priority)
		}
	}
	return rules
}

// pastRules are those that a switch may have had: nobody knows whether any of its ports was
// guarded.
func pastRules(r store.SwitchRecord, caps kernel.Capabilities) plan.Rules {
	rules := hostRules([]store.SwitchRecord{r}, caps)
	rules.GuardBase, rules.ACLBase = caps.GuardRules, caps.ACLRules
	return rules
}
