package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Status looks at the host as a whole. It fails only if nothing can be said; what
// is wrong is among the problems, and Ready tells whether an Attach can succeed.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	caps, err := e.capabilities(ctx)
	if err != nil {
		return Status{Problems: []Problem{problem(err)}}, nil
	}
	s := Status{Ready: true, Capabilities: caps, Daemon: e.resident.Load().status()}
	var records []store.SwitchRecord
	err = e.store.View(func(tx *store.Tx) (err error) {
		if records, err = tx.Switches(); err != nil {
			return err
		}
		for _, r := range records {
			n, err := tx.PortCount(r.Name)
			if err != nil {
				return err
			}
			s.Ports += n
		}
		s.Pool, err = poolStatus(tx)
		return err
	})
	if err != nil {
		return Status{Problems: []Problem{problem(err)}, Capabilities: caps}, nil
	}
	s.Switches = len(records)
	s.judgePool()
	s.judgeCapabilities()
	if err := e.judgeTeams(ctx, &s); err != nil {
		return s, err
	}
	if err := e.judgeSwitches(ctx, &s, records); err != nil {
		return s, err
	}
	if err := e.judgeOffloads(ctx, &s, records); err != nil {
		return s, err
	}
	if err := e.judgeQueues(ctx, &s); err != nil {
		return s, err
	}
	return s, e.judgeStrangers(ctx, &s)
}

// judgeStrangers tells of netdevs in switches that are nobody's ports.
func (e *Engine) judgeStrangers(ctx context.Context, s *Status) error {
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return fault("status", "", err)
	}
	for _, n := range strangersAmong(netdevs) {
		s.Problems = append(s.Problems, Problem{
			Kind: vswitch.Drifted, Message: fmt.Sprintf("netdev %s is in bridge %s and no port of its switch: its frames are dropped", n.Name, n.Master), Hint: strangerHint(n),
		})
	}
	return nil
}

// judgeTeams tells how the teams are, and compares those without a switch with the
// kernel: the others are compared with that.
func (e *Engine) judgeTeams(ctx context.Context, s *Status) (err error) {
	teams, err := e.Teams(ctx)
	if err != nil || len(teams) == 0 {
		return err
	}
	s.Teams = teams
	for _, t := range s.Teams {
		object := "team " + t.Name
		if len(t.Degraded) > 0 {
			p := Problem{
				Kind: vswitch.TeamDegraded, Message: object + ": " + strings.Join(t.Degraded, "; "),
				Hint: fmt.Sprintf("run `patchbay team show %s`; check cables and the physical switch", t.Name),
			}
			if t.Standby != "" && s.Daemon == nil {
				p.Hint += "; run `" + startDaemon + "`, or `patchbayd`"
			}
			s.Problems = append(s.Problems, p)
		}
		if s.Daemon == nil && t.Switch != "" && !t.Mode.Grouped() {
			s.Problems = append(s.Problems, unannounced(t))
		}
		if t.Mode == vswitch.TeamActiveActive && !s.Capabilities.MemberRules {
			s.Problems = append(s.Problems, problem(fault("", object, missing("mode active-active", memberRulesSymbols, fmt.Sprintf("run `patchbay team set %s --mode active-standby`, or boot a kernel that has it", t.Name)))))
		}
		if !s.Capabilities.Bonding {
			s.Problems = append(s.Problems, problem(fault("", object, missing("teams of NICs", "CONFIG_BONDING", "boot a kernel that has it"))))
		}
		if t.Switch != "" {
			continue
		}
		_, drift, _, err := e.lookAtTeam(ctx, t.Name)
		if err != nil {
			return fault("status", object, err)
		}
		if len(drift) > 0 {
			s.Problems = append(s.Problems, Problem{
				Kind: vswitch.Drifted, Message: object + " is not as it should be in the kernel: " + strings.Join(drift, "; "),
				Hint: "run `patchbay restore`, which repairs it",
			})
		}
	}
	return nil
}

func problem(err error) Problem {
	p := Problem{Kind: vswitch.KindOf(err), Message: err.Error(), Hint: vswitch.HintOf(err), Blocks: true}
	var v *vswitch.Error
	if errors.As(err, &v) {
		bare := *v
		bare.Hint = ""
		p.Message = bare.Error()
	}
	return p
}

// judgePool warns when four fifths of the pool are used, before it is empty.
func (s *Status) judgePool() {
	if s.Pool.Used*5 < s.Pool.Size*4 {
		return
	}
	empty := s.Pool.Used >= s.Pool.Size
	s.Ready = s.Ready && !empty
	wider := s.Pool.Wider()
	s.Problems = append(s.Problems, Problem{
		Kind: vswitch.MACPoolExhausted, Message: fmt.Sprintf("MAC pool %s: %d of %d addresses are in use", s.Pool.MACRange, s.Pool.Used, s.Pool.Size),
		Hint: fmt.Sprintf("run `patchbay mac pool set --first %s --last %s`", wider.First, wider.Last), Blocks: empty,
	})
}

// judgeCapabilities says what works in another way, or not, on this kernel.
func (s *Status) judgeCapabilities() {
	lacks := func(has bool, message, hint string) {
		if !has {
			s.Problems = append(s.Problems, Problem{Kind: vswitch.CapabilityMissing, Message: message, Hint: hint})
		}
	}
	lacks(s.Capabilities.PortLocked, "this kernel cannot lock ports to their MAC address (Linux 5.18 can): nftables does it instead", "")
	lacks(s.Capabilities.VLANFiltering, "this kernel has no VLAN filtering: switches with a VLAN are refused", "use a kernel with CONFIG_BRIDGE_VLAN_FILTERING")
	lacks(s.Capabilities.BridgeRules, "this kernel has no nftables for bridges: private switches and masquerade are refused", "use a kernel with CONFIG_NF_TABLES_BRIDGE")
	lacks(s.Capabilities.ACLRules, "this kernel cannot hold ACLs of ports: they are refused", "use a kernel with "+aclRulesSymbols)
	lacks(s.Capabilities.GuardRules, "this kernel cannot guard ports: guards and storm limits are refused", "use a kernel with "+guardRulesSymbols)
	lacks(s.Capabilities.PriorityReset, "this kernel cannot reset the priority of tags: that of all ports passes", "use a kernel with "+priorityResetSymbols)
	lacks(s.Capabilities.Limits, "this kernel cannot limit bandwidth: limits on ports are refused", "use a kernel with "+kernel.LimitSymbols)
	lacks(s.Capabilities.Shares, "this kernel cannot keep minimums of bandwidth: they are refused", "use a kernel with "+kernel.ShareSymbols)
	lacks(s.Capabilities.Mirroring, "this kernel cannot mirror ports: sources and destinations are refused", "use a kernel with "+kernel.MirrorSymbols)
	lacks(s.Capabilities.NAT, "this kernel has no NAT in nftables: masquerade is refused", "use a kernel with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT and CONFIG_NFT_MASQ")
}

// judgeSwitches compares each switch with the kernel.
func (e *Engine) judgeSwitches(ctx context.Context, s *Status, records []store.SwitchRecord) error {
	for _, r := range records {
		if p, ok := e.judgeUplink(ctx, r); ok {
			s.Problems = append(s.Problems, p)
			if p.Kind == vswitch.UplinkNotFound {
				continue // the rest follows from it
			}
		}
		var desired plan.State
		var earlier plan.Rules
		err := e.store.View(func(tx *store.Tx) error {
			was, _, err := tx.Realised(r.Name)
			if err != nil {
				return err
			}
			desired = wholeState(r, s.Capabilities, standingExtent(was))
			if err := addJoint(tx, desired, r, s.Capabilities); err != nil {
				return err
			}
			if err := s.judgeMirrors(tx, r); err != nil {
				return err
			}
			if earlier, err = earlierRulesOn(tx, r); err != nil {
				return err
			}
			desired.Rules, err = allRules(tx, s.Capabilities)
			return err
		})
		if err == nil {
			t := &transaction{caps: s.Capabilities, changes: []change{{new: &r}}, looks: true}
			err = e.placeTeams(ctx, t, &desired, &plan.State{})
		}
		if err != nil {
			return fault("status", "switch "+r.Name, err)
		}
		observed, err := e.kernel.Observe(ctx, plan.Union(desired, plan.State{Rules: earlier}))
		if err != nil {
			return fault("status", "switch "+r.Name, err)
		}
		s.judgeShares(r, desired, observed)
		steps := plan.Diff(desired, observed)
		if len(steps) == 0 {
			if steps, err = e.lostOfGuests(ctx, r, s.Capabilities); err != nil {
				return fault("status", "switch "+r.Name, err)
			}
		}
		if len(steps) > 0 {
			s.Problems = append(s.Problems, drifted(r, steps))
		}
	}
	return nil
}

// drifted words what a switch lacks, by its first step, and the command that
// repairs it: to add what exists is to bring it to what it should be.
func drifted(r store.SwitchRecord, steps []plan.Step) Problem {
	message := fmt.Sprintf("switch %s is not as it should be in the kernel: %s", r.Name, steps[0])
	if more := len(steps) - 1; more > 0 {
		message += fmt.Sprintf("; and %d more", more)
	}
	definition := "--type " + string(r.Type)
	if r.Uplink != "" {
		definition = "--uplink " + r.Uplink
	}
	return Problem{Kind: vswitch.Drifted, Message: message, Hint: fmt.Sprintf("run `patchbay switch add %s %s`, which repairs it", r.Name, definition)}
}

// Topology is what a picture of the host's switches shows.
func (e *Engine) Topology(ctx context.Context) (Topology, error) {
	t := Topology{NICs: []kernel.Netdev{}, Switches: []TopologySwitch{}}
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return t, fault("topology", "", err)
	}
	teams, err := e.Teams(ctx)
	if err != nil {
		return t, err
	}
	if len(teams) > 0 {
		t.Teams = teams
	}
	err = e.store.View(func(tx *store.Tx) error {
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		uplinks, members := make(map[string]bool), make(map[string]bool)
		teams, err := tx.Teams()
		if err != nil {
			return err
		}
		for _, t := range teams {
			for _, m := range t.Members {
				members[m] = true
			}
		}
		for _, r := range records {
			uplinks[r.Uplink] = true
			s, err := statusOf(tx, r)
			if err != nil {
				return err
			}
			ports, err := portsOf(tx, r)
			if err != nil {
				return err
			}
			t.Switches = append(t.Switches, TopologySwitch{SwitchStatus: s, Attached: ports})
		}
		for _, n := range netdevs {
			if uplinks[n.Name] || unsupported(n) == "" && n.Kind == "" || members[n.Name] || isTeam(n) {
				t.NICs = append(t.NICs, n)
			}
		}
		return nil
	})
	return t, fault("topology", "", err)
}
