package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ExplainRequest names a switch, a team, or a port as `port show` names it, in that order.
type ExplainRequest struct {
	Name string `json:"name"`
}

// Explanation is what a switch or a port is made of, and how packets go.
type Explanation struct {
	Object string       `json:"object"` // "switch lan", "port pb4k2..."
	Parts  []Part       `json:"parts"`
	Paths  []PacketPath `json:"paths"`
	// Offload is what the uplink does for a port, and why not more.
	Offload []vswitch.OffloadStatus `json:"offload,omitempty"`
}

// Part is a group of commands that would make a part of it, and what for.
type Part struct {
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Commands []string `json:"commands"`
}

// PacketPath is how a packet gets from a guest to somewhere, one stage after the other;
// none where it cannot, and then Why tells the reason.
type PacketPath struct {
	To   string   `json:"to"`
	Via  []string `json:"via,omitempty"`
	Why  string   `json:"why,omitempty"`
	From string   `json:"from"`
}

// Explain tells what a switch or a port is made of: the ip, bridge, nft and sysctl
// commands that would make it on an empty kernel. It changes nothing and looks at the
// records alone, at how fast an uplink is and at what it does for a port: what is missing in
// the kernel is for Port and Status to say.
func (e *Engine) Explain(ctx context.Context, req ExplainRequest) (Explanation, error) {
	x, err := e.explain(ctx, req.Name)
	return x, fault("explain", req.Name, err)
}

func (e *Engine) explain(ctx context.Context, name string) (Explanation, error) {
	caps, err := e.capabilities(ctx)
	if err != nil {
		return Explanation{}, err
	}
	r, err := e.record(name)
	if err == nil {
		var d vlanDemand
		if err := e.store.View(func(tx *store.Tx) (err error) {
			d, err = demand(tx, r.Name)
			return err
		}); err != nil {
			return Explanation{}, err
		}
		s, err := e.switchStatus(r)
		if err != nil {
			return Explanation{}, err
		}
		x := explainSwitch(r, caps, d, max(0, s.Segments-1))
		shares, err := e.explainShares(ctx, r)
		x.Parts = append(x.Parts, shares...)
		return x, err
	}
	if !errors.Is(err, vswitch.NotFound) {
		return Explanation{}, err
	}
	if team, err := e.teamRecord(name); err == nil {
		records, err := e.records()
		return explainTeam(team, records, caps), err
	}
	p, err := e.findPort(name)
	if errors.Is(err, vswitch.NotFound) {
		err = &vswitch.Error{Kind: vswitch.NotFound, Err: fmt.Errorf("there is no such switch, team or port"), Hint: "run `patchbay switch list`, `patchbay team list` or `patchbay port list`"}
	}
	if err != nil {
		return Explanation{}, err
	}
	if r, err = e.record(p.Switch); err != nil {
		return Explanation{}, err
	}
	var mirrors plan.Mirrors
	err = e.store.View(func(tx *store.Tx) (err error) {
		mirrors, err = mirrorsOf(tx, r)
		return err
	})
	if err != nil {
		return Explanation{}, err
	}
	x := explainPort(p, r, caps, mirrors)
	x.Offload, err = e.offloadsOf(ctx, p)
	return x, err
}

// commands are those that make a state out of nothing.
func commands(s plan.State) []string {
	return spelled(plan.Diff(s, plan.State{}))
}

// spelled leaves out the waiting: whoever types commands need not be told to.
func spelled(steps []plan.Step) []string {
	list := []string{}
	for _, step := range steps {
		if _, waits := step.(plan.AwaitPort); !waits {
			list = append(list, step.String())
		}
	}
	return list
}

func explainSwitch(r store.SwitchRecord, caps kernel.Capabilities, d vlanDemand, segments int) Explanation {
	whole := switchState(r, caps, d.carried)
	x := Explanation{Object: "switch " + r.Name, Paths: paths(r, "a guest")}
	add := func(what, why string, s plan.State) {
		if c := commands(s); len(c) > 0 {
			x.Parts = append(x.Parts, Part{What: what, Why: why, Commands: c})
		}
	}
	add("bridge "+vswitch.BridgeName(r.Name), "The switch itself. It has no address, so that the host is on the switch by a port or not at all; it neither waits for a spanning tree nor puts anybody into VLAN 1.",
		plan.State{Bridges: whole.Bridges})
	if r.Uplink != "" {
		add("uplink "+r.Uplink, "The way to every address that is no port's, so it alone gets what the switch does not know. It learns nothing: a frame that comes back must not move a guest to it.",
			plan.State{Ports: map[string]plan.Port{r.Uplink: whole.Ports[r.Uplink]}})
	}
	if r.HostPort() {
		end := vswitch.HostPortSwitchEnd(r.Name)
		why := "The host is on the switch as anybody else is, by a pair of netdevs: " + end + " is the switch's end, " + vswitch.HostPortName(r.Name) + " the host's."
		if len(r.Gateway) > 0 {
			why += " Guests know its address as their gateway."
		}
		add("host port "+vswitch.HostPortName(r.Name), why, plan.State{Ports: map[string]plan.Port{end: whole.Ports[end]}})
	}
	if segments > 0 {
		x.Parts = append(x.Parts, explainSegments(r, caps, extent{want: segments, carried: d.carried}))
	}
	rules := hostRules([]store.SwitchRecord{r}, caps)
	rules.ApartIn = apartIn(rules.ApartIn, r, d.apart)
	rules.Priority = priorityAt(rules.Priority, r.Name, segments)
	add("rules", rulesWhy(r), plan.State{Rules: rules})
	add("forwarding", "The host passes on what guests send through their gateway.", plan.State{Forward: whole.Forward})
	return x
}

// explainSegments shows the first of them: the others are as it is.
func explainSegments(r store.SwitchRecord, caps kernel.Capabilities, x extent) Part {
	trunk, _ := vswitch.TrunkNames(r.Name, 1)
	relay, _ := vswitch.RelayNames(r.Name, 1)
	first := x
	first.want = 1
	p := Part{
		What: "segment " + vswitch.SegmentName(r.Name, 1), Commands: commands(segmentState(r, caps, first)),
		Why: "A bridge for the guests that the switch itself has no room for. " + trunk + " is its trunk at the root, for what goes to one address; " + relay + " is its relay, for broadcasts and multicasts, which go from segment to segment.",
	}
	if x.want > 1 {
		p.What += fmt.Sprintf(" and %d more", x.want-1)
		p.Why += fmt.Sprintf(" The others, to %s, are made likewise, and each one's relay comes from the one before.", vswitch.SegmentName(r.Name, x.want))
	}
	return p
}

func rulesWhy(r store.SwitchRecord) string {
	why := "Two constant nftables tables for all switches of the host; a switch is an element of their sets."
	if r.Type == vswitch.Private {
		why += " They keep the bridge itself deaf: on a private switch not even the host can listen."
	}
	if m := r.EffectiveMasquerade(); !m.IsZero() {
		why += " What comes from " + vswitch.HostPortName(r.Name) + " and leaves the host goes under the host's address."
	}
	if r.Type != vswitch.External {
		why += " Multicast reports stop at the ports: nobody is there to hear them."
	}
	return why
}

func explainVF(p vswitch.Port, r store.SwitchRecord) Part {
	return Part{
		What: "VF " + p.VF, Commands: commands(lentState(p)),
		Why: "A virtual function of " + r.Uplink + ", which the owner has instead of one end of a pair. Its plugin gives it the port's MAC address, VLAN and limit, and the NIC does what the switch does for other ports; the bridge does not see its frames, but for what goes to ports of the bridge.",
	}
}

func explainFailover(p vswitch.Port) Part {
	s := failoverState(p)
	part := Part{What: "bond " + p.Owner.Endpoint, Commands: commands(s), Why: "The owner has a bond with its addresses, of the pair and of a VF while it has one: by that it goes while it has a link, and by the pair otherwise."}
	if p.VF == "" {
		part.Why += " It has none now; `patchbay port show " + p.ID + "` says why."
	}
	return part
}

// portWhy tells what a port with a netdev is, and what points to it.
func portWhy(p vswitch.Port, state plan.Port) string {
	why := "A pair of netdevs: " + p.Netdev + " is the switch's end"
	if p.Owner.Kind == vswitch.OwnerHost {
		why += ", " + p.Owner.Endpoint + " the host's."
	} else {
		why += ", " + state.Endpoint.Name + " the owner's, made where the owner is."
	}
	if p.Adopted {
		why = "The netdev " + p.Netdev + " is somebody else's, and a port of the bridge."
	}
	if p.VM.Stage == vswitch.VMIncoming {
		why += " Its VM still runs on another host: nothing points here until it speaks."
	} else if p.VF != "" {
		why += " Its owner works by its VF, so nothing points here; when the bond goes by the pair, the switch learns that."
	} else if p.GoesByVF() {
		why += " Its VM goes by a VF of the uplink with the same address, so nothing points here but while the VF is away because the VM migrates."
	} else if p.VM.VFTurn == vswitch.VFComes {
		why += " Its VM has a VF of the uplink with the same address, and may not have the driver for it yet: until it is heard by the VF, for five minutes at most, the switch sends here what is for it."
	} else if p.MACSpoofing {
		why += " Its owner may send from any address, so the switch learns here and sends here what it does not know."
	} else {
		why += " The switch knows its address " + p.MAC.String() + " and need not learn: nobody else can take it, and the owner can send from no other."
	}
	if p.VM.VFAway != "" {
		why += " Its VM goes by VF " + p.VM.VFAway + " otherwise, and migrates now: the VF's NIC has been told to forget the address, and what is for the VM comes here."
	}
	if !p.VLAN.IsZero() {
		why += " It hears and sends in its VLANs (" + p.VLAN.String() + ") and in no other."
	}
	return why
}

func explainPort(p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities, mirrors plan.Mirrors) Explanation {
	x := Explanation{Object: "port " + p.ID, Paths: paths(r, p.Owner.String())}
	if p.OnVF() {
		x.Parts = []Part{explainVF(p, r)}
		return x
	}
	if !p.Plugged() {
		x.Parts = []Part{{
			What: "no netdev", Why: "The port of " + p.Owner.String() + " is reserved: its MAC address and its place on the switch are its own. libvirt makes the tap when the VM starts; until the tap is the port's, its frames are dropped.",
		}}
		return x
	}
	state := portState(p, r, caps)
	if p.Owner.Kind == vswitch.OwnerHost {
		state.Endpoint.Alias = vswitch.Alias("host", r.Name, "")
	}
	bare := state
	bare.Limits = plan.Limits{}
	if state.Endpoint != nil {
		end := *state.Endpoint
		end.Addresses, end.Routes = nil, nil
		bare.Endpoint = &end
	}
	if p.Failover {
		x.Parts = append(x.Parts, explainFailover(p))
	}
	x.Parts = append(x.Parts, Part{What: "port " + p.Netdev, Why: portWhy(p, state), Commands: commands(plan.State{Ports: map[string]plan.Port{p.Netdev: bare}})})
	x.Parts = append(x.Parts, explainLimits(state, bare)...)
	if state.Endpoint != nil && len(state.Endpoint.Addresses)+len(state.Endpoint.Routes) > 0 {
		addressed := state
		addressed.Limits = plan.Limits{}
		steps := plan.Diff(plan.State{Ports: map[string]plan.Port{p.Netdev: addressed}}, plan.State{Ports: map[string]plan.Port{p.Netdev: bare}})
		x.Parts = append(x.Parts, Part{
			What: "addresses of " + p.Owner.Endpoint, Commands: spelled(steps),
			Why: "What the owner is reached by. An IPv6 address that Patchbay leased is used at once (nodad): nobody else on the switch has it.",
		})
	}
	if p.Segment > 0 {
		trunk, _ := vswitch.TrunkNames(r.Name, p.Segment)
		x.Parts = append(x.Parts, Part{
			What: "entry on " + trunk, Commands: spelled(plan.Diff(entryState(p, r, caps), around(p, r))),
			Why: fmt.Sprintf("The port is on segment %s. At the root its address is known to be behind the segment's trunk.", vswitch.SegmentName(r.Name, p.Segment)),
		})
	}
	if own := ownOf(p, r, caps); len(own) > 0 {
		x.Parts = append(x.Parts, Part{
			What: "own address at team " + r.Uplink, Commands: commands(plan.State{Rules: plan.Rules{Own: own}}),
			Why: "The physical switches send what the port sends for all back by the team's other members. By its address that is known, and dropped.",
		})
	}
	if m := p.Policy.Bandwidth.Min; !m.IsZero() {
		part := Part{What: "minimum of bandwidth", Commands: []string{}, Why: fmt.Sprintf("It is promised %s of the uplink; `patchbay explain %s` has the classes.", m, r.Name)}
		if why := noMinimum(p, r); why != "" {
			part.Why = "It has no minimum: " + why + "."
		}
		x.Parts = append(x.Parts, part)
	}
	x.Parts = append(x.Parts, explainPortRules(portRules(p, r, caps))...)
	x.Parts = append(x.Parts, explainMirror(p, r, mirrors)...)
	return x
}

// explainMirror tells whose frames a port gets, or who gets its own.
func explainMirror(p vswitch.Port, r store.SwitchRecord, mirrors plan.Mirrors) []Part {
	switch _, copied := mirrors[p.Netdev]; {
	case copied:
		return []Part{{
			What: "mirror", Commands: commands(plan.State{Mirrors: map[string]plan.Mirrors{vswitch.BridgeName(r.Name): {p.Netdev: mirrors[p.Netdev]}}}),
			Why: "What comes in by the port and what goes out is sent once more by the netdev of each mirror destination of the switch, past the bridge.",
		}}
	case p.Policy.Mirror == vswitch.MirrorSource:
		return []Part{{What: "mirror", Commands: []string{}, Why: "Nobody gets copies of its frames: no port of the switch is a mirror destination."}}
	case p.Policy.Mirror == vswitch.MirrorDestination:
		return []Part{{
			What: "mirror", Commands: []string{},
			Why: fmt.Sprintf("It gets copies of the frames of the %d mirror sources of switch %s; `patchbay explain` of a source has the commands.", len(mirrors), r.Name),
		}}
	}
	return nil
}

func explainPortRules(rules plan.Rules) (parts []Part) {
	if len(rules.Guard) > 0 {
		parts = append(parts, Part{
			What: "guard", Commands: commands(plan.State{Rules: plan.Rules{Guard: rules.Guard}}),
			Why: "This kernel cannot lock a port to its address; nftables drops what comes from another one.",
		})
	}
	for _, g := range rules.Guards {
		why := "What the owner sends is looked at by the rules of table patchbay_guards, the same for all ports; the port is in the sets of what it may not send, and each counts what it has dropped."
		if g.Storm > 0 {
			why += " The storm limit is for broadcast and multicast; unknown unicast goes to the uplink alone and is not counted."
		}
		parts = append(parts, Part{What: "guards", Commands: commands(plan.State{Rules: plan.Rules{Guards: rules.Guards}}), Why: why})
	}
	if len(rules.ACLs) > 0 {
		parts = append(parts, Part{
			What: "acl", Commands: commands(plan.State{Rules: plan.Rules{ACLs: rules.ACLs}}),
			Why: "Chains of the port's own in table patchbay_acl, to which a map leads what it sends and what is sent to it. A frame of a port without an ACL is looked up there once and goes on.",
		})
	}
	if len(rules.Priority) > 0 {
		parts = append(parts, Part{
			What: "priority", Commands: commands(plan.State{Rules: plan.Rules{Priority: rules.Priority}}),
			Why: "What the tags of this port's frames say about their priority passes; that of other ports is reset to 0 by one rule for all of them.",
		})
	}
	if len(rules.Apart) > 0 {
		parts = append(parts, Part{
			What: "isolation", Commands: commands(plan.State{Rules: plan.Rules{Apart: rules.Apart}}),
			Why: "The bridge keeps isolated ports apart that are its own; nftables does with those of other segments, and with what the uplink brings from other hosts' in the isolated VLAN.",
		})
	}
	return parts
}

// paths is how a packet from somebody on the switch gets to where it may want to go.
func paths(r store.SwitchRecord, from string) []PacketPath {
	bridge, host := "bridge "+vswitch.BridgeName(r.Name), "host port "+vswitch.HostPortName(r.Name)
	all := []PacketPath{{From: from, To: "a guest on the same switch", Via: []string{"the sender's port", bridge, "the receiver's port"}}}
	toHost := PacketPath{From: from, To: "the host"}
	if r.HostPort() {
		toHost.Via = []string{"the sender's port", bridge, vswitch.HostPortSwitchEnd(r.Name), host}
	} else {
		toHost.Why = "the host has no port on the switch"
	}
	out := PacketPath{From: from, To: "the outside"}
	switch {
	case r.Type == vswitch.External:
		out.Via = []string{"the sender's port", bridge, "uplink " + r.Uplink, "the network that the NIC is on, under the sender's own address"}
	case r.Type == vswitch.Internal && len(r.Gateway) > 0:
		out.Via = []string{"the sender's port", bridge, fmt.Sprintf("%s with gateway %s", host, gatewayWords(r.Switch)), "the host's routes"}
		if m := r.EffectiveMasquerade(); !m.IsZero() {
			out.Via = append(out.Via, "masquerade "+m.String()+": the host's own address from here on")
		} else {
			out.Via = append(out.Via, "under the sender's own address: the network beyond needs a route back")
		}
	case r.Type == vswitch.Internal:
		out.Why = "the switch has no gateway address; `patchbay switch set " + r.Name + " --gateway ADDRESS/LENGTH --masquerade` gives it one"
	default:
		out.Why = "a private switch has no way out"
	}
	return append(all, toHost, out)
}
