package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file says what an active/active team needs besides its bond, so that the guests of
// its switch hear every frame once: see plan.Spread.

// spreads reports whether the members of a switch's uplink are each the way of some of
// its guests.
func spreads(teams []store.TeamRecord, uplink string) bool {
	return slices.ContainsFunc(teams, func(t store.TeamRecord) bool {
		return t.Name == uplink && t.Mode == vswitch.TeamActiveActive
	})
}

// manyVLANs is from how many on a port's address is its own in all of them.
const manyVLANs = 16

// ownOf is what comes from a port, and so does not come in by the uplink.
func ownOf(p vswitch.Port, r store.SwitchRecord, caps kernel.Capabilities) map[plan.Own]bool {
	if !r.Spread || !p.Speaks() { // a VM that is elsewhere is heard by the team
		return nil
	}
	own := make(map[plan.Own]bool)
	add := func(vlan int) { own[plan.Own{Team: r.Uplink, MAC: p.MAC, VLAN: vlan}] = true }
	in := p.VLAN.Membership(r.UntaggedVLAN())
	sends := in.Tagged.Union(vswitch.VLANs(in.PVID))
	if !caps.VLANFiltering || sends.Len() > manyVLANs {
		add(plan.AnyVLAN)
		return own
	}
	for id := range sends.All() {
		if id == r.UntaggedVLAN() {
			id = plan.NoVLAN
		}
		add(id)
	}
	return own
}

// reportSource is the address from which guests' multicast reports leave a team.
func reportSource(r store.TeamRecord) vswitch.MAC {
	return vswitch.DerivedMAC("reports", r.Name, r.MAC.String())
}

// spreadState is a team's table, with the own addresses that are no guest's. Its members
// are those that are on the host, also one that stands by: it is muted before it joins.
func spreadState(t store.TeamRecord, r store.SwitchRecord, bond plan.Bond, caps kernel.Capabilities) plan.State {
	s := plan.Spread{Team: t.Name, Source: reportSource(t)}
	for _, m := range slices.Concat(bond.Members, bond.Held) {
		s.Members = append(s.Members, m.Name)
	}
	slices.Sort(s.Members)
	own := make(map[plan.Own]bool)
	for _, mac := range []vswitch.MAC{t.MAC, s.Source} {
		own[plan.Own{Team: t.Name, MAC: mac, VLAN: plan.AnyVLAN}] = true
	}
	if r.HostPort() {
		maps.Copy(own, ownOf(hostPort(r), r, caps))
	}
	return plan.State{Spreads: map[string]plan.Spread{t.Name: s}, Rules: plan.Rules{Own: own}}
}

// placeSpread adds the tables of active/active teams to the states: of the switches of
// the transaction, on the bonds that are in desired.
func (e *Engine) placeSpread(ctx context.Context, t *transaction, teams []store.TeamRecord, desired, had *plan.State) error {
	for _, r := range t.from {
		if r.Spread {
			*had = plan.Union(*had, plan.State{Spreads: map[string]plan.Spread{r.Uplink: {Team: r.Uplink}}})
		}
	}
	for _, r := range t.news() {
		at := slices.IndexFunc(teams, func(t store.TeamRecord) bool { return t.Name == r.Uplink })
		if !r.Spread || at < 0 {
			continue
		}
		s := spreadState(teams[at], r, desired.Bonds[r.Uplink], t.caps)
		spread := s.Spreads[r.Uplink]
		designated, _, err := e.designate(ctx, teams[at], spread, desired.Bonds[r.Uplink])
		if err != nil {
			return err
		}
		s.Spreads[r.Uplink] = spread.With(designated)
		*desired = plan.Union(*desired, s)
	}
	return nil
}

// designate chooses the member that hears what is for all, of those that are to be in the
// bond, and returns which one does. The standby comes last.
func (e *Engine) designate(ctx context.Context, t store.TeamRecord, s plan.Spread, bond plan.Bond) (chosen, now string, err error) {
	seen, err := e.kernel.Observe(ctx, plan.State{Spreads: map[string]plan.Spread{s.Team: s}})
	if err != nil {
		return "", "", err
	}
	now = seen.Spreads[s.Team].Designated
	state, err := e.kernel.Team(ctx, s.Team)
	fresh := errors.Is(err, vswitch.NotFound)
	if err != nil && !fresh {
		return "", now, err
	}
	order := slices.DeleteFunc(append(t.Active(), t.Standby), func(m string) bool {
		return !slices.ContainsFunc(bond.Members, func(in plan.Member) bool { return in.Name == m })
	})
	hasLink := func(m string) bool {
		at := slices.IndexFunc(state.Members, func(x kernel.MemberState) bool { return x.Name == m })
		if at >= 0 || fresh {
			return fresh || state.Members[at].Link
		}
		nic, err := e.kernel.Netdev(ctx, m) // it is about to join
		return err == nil && nic.Carrier
	}
	return plan.Designate(order, hasLink, now), now, nil
}

// ownDrift compares the own addresses of a switch's ports with the kernel's: those of
// ports that lack some, and those of nobody.
func (e *Engine) ownDrift(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) (missing []vswitch.Port, strays map[plan.Own]bool, err error) {
	seen, err := e.kernel.Observe(ctx, plan.State{Rules: plan.Rules{Own: map[plan.Own]bool{{Team: r.Uplink}: true}}})
	if err != nil {
		return nil, nil, err
	}
	var ports []vswitch.Port
	var team store.TeamRecord
	err = e.store.View(func(tx *store.Tx) (err error) { // after the look: who is seen had a record before
		if ports, err = tx.PortsOf(r.Name); err != nil {
			return err
		}
		team, err = tx.Team(r.Uplink)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	strays = maps.Clone(seen.Rules.Own)
	for own := range spreadState(team, r, plan.Bond{}, caps).Rules.Own {
		delete(strays, own)
	}
	for _, p := range ports {
		lacks := false
		for own := range ownOf(p, r, caps) {
			lacks = lacks || !seen.Rules.Own[own]
			delete(strays, own)
		}
		if lacks && p.Owner.Kind != vswitch.OwnerHost {
			missing = append(missing, p)
		}
	}
	return missing, strays, nil
}

// ownGuests puts right the own addresses of the transaction's guests: a table that was
// made anew has none, and in one that was there before may be some of who has gone. Each
// is added under its port's lock, since a guest may go at any time.
func (e *Engine) ownGuests(ctx context.Context, t *transaction) error {
	for _, r := range t.news() {
		if !r.Spread {
			continue
		}
		missing, strays, err := e.ownDrift(ctx, r, t.caps)
		if err != nil {
			return err
		}
		if len(strays) > 0 {
			if err := e.kernel.Apply(ctx, []plan.Step{plan.SetRules{Remove: plan.Rules{Own: strays}}}); err != nil {
				return err
			}
		}
		own := func(found []reservation) error { return e.ownTogether(ctx, r, t.caps, found) }
		if err := e.together(missing, own); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) ownTogether(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities, found []reservation) error {
	own := make(map[plan.Own]bool)
	for _, f := range found {
		if f.known && f.port.Switch == r.Name {
			maps.Copy(own, ownOf(f.port, r, caps))
		}
	}
	if len(own) == 0 {
		return nil
	}
	return e.kernel.Apply(ctx, []plan.Step{plan.SetRules{Add: plan.Rules{Own: own}}})
}

// lostOfGuests is the plan that gives attached guests back what the switch has for them
// outside of their ports.
func (e *Engine) lostOfGuests(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) ([]plan.Step, error) {
	steps, err := e.lostEntries(ctx, r, caps)
	if err != nil || !r.Spread {
		return steps, err
	}
	own, err := e.lostOwn(ctx, r, caps)
	return append(steps, own...), err
}

// lostOwn is the plan that puts the own addresses of attached guests right. Ports that
// come and go meanwhile are none of it.
func (e *Engine) lostOwn(ctx context.Context, r store.SwitchRecord, caps kernel.Capabilities) (steps []plan.Step, err error) {
	missing, strays, err := e.ownDrift(ctx, r, caps)
	if err != nil {
		return nil, err
	}
	add := make(map[plan.Own]bool)
	for _, p := range missing {
		err = errors.Join(err, e.withGuest(p.ID, r, func(p vswitch.Port) error {
			own := ownOf(p, r, caps)
			seen, err := e.kernel.Observe(ctx, plan.State{Ports: map[string]plan.Port{p.Netdev: {}}, Rules: plan.Rules{Own: own}})
			if _, attached := seen.Ports[p.Netdev]; attached && len(seen.Rules.Own) < len(own) {
				maps.Copy(add, own)
			}
			return err
		}))
	}
	if len(add)+len(strays) > 0 {
		steps = append(steps, plan.SetRules{Add: plan.Rules{Own: add}, Remove: plan.Rules{Own: strays}})
	}
	return steps, err
}

// queryGuests has the guests of a switch report their multicast groups again, where
// another member hears them now.
func (e *Engine) queryGuests(ctx context.Context, t *transaction, steps []plan.Step) error {
	for _, step := range steps {
		var s plan.Spread
		switch step := step.(type) {
		case plan.MakeSpread:
			s = step.Spread
		case plan.SetDesignated:
			s = step.Spread
		default:
			continue
		}
		for _, r := range t.news() {
			if r.Uplink != s.Team {
				continue
			}
			if err := e.query(ctx, r, s.Source); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) query(ctx context.Context, r store.SwitchRecord, source vswitch.MAC) error {
	ports, err := e.portsOn(r.Name)
	if err != nil || len(ports) == 0 {
		return err
	}
	q := plan.QueryGroups{Source: source}
	for _, p := range ports {
		if !p.Plugged() {
			continue
		}
		tagged := p.VLAN.Membership(r.UntaggedVLAN()).Tagged
		if tagged.Len() > manyVLANs {
			tagged = nil // a router's own queries have to do
		}
		q.Queries = append(q.Queries, plan.Query{Netdev: p.Netdev, VLANs: tagged})
	}
	return e.kernel.Apply(ctx, []plan.Step{q})
}

// designated sees to it that the designated member of a team has a link. Links come and
// go: unlike other changes it is made as often as that.
func (h *herald) designated(ctx context.Context, t store.TeamRecord, switchName string) {
	if t.Mode != vswitch.TeamActiveActive || switchName == "" {
		return
	}
	from, to := "", ""
	r, err := h.record(switchName)
	if err == nil && r.Spread {
		from, to, err = h.redesignate(ctx, r, t)
	}
	switch {
	case err != nil:
		h.log.Warn("another member cannot be designated", "team", t.Name, "err", err)
	case from != to:
		h.log.Info("another member hears what is for all", "team", t.Name, "from", from, "to", to)
	}
}

// redesignate lets another member of an active/active team hear what is for all, if the
// one that does has lost its link, and reports whether it did. It takes no lock and needs
// none: whatever else goes on ends with a member that has a link.
func (e *Engine) redesignate(ctx context.Context, r store.SwitchRecord, t store.TeamRecord) (from, to string, err error) {
	caps, err := e.capabilities(ctx)
	if err != nil {
		return "", "", err
	}
	netdevs, err := e.kernel.Team(ctx, t.Name)
	if err != nil {
		return "", "", err
	}
	bond := plan.Bond{}
	for _, m := range netdevs.Members {
		if slices.Contains(t.Members, m.Name) {
			bond.Members = append(bond.Members, plan.Member{Name: m.Name})
		}
	}
	if nic, err := e.kernel.Netdev(ctx, t.Standby); t.Standby != "" && err == nil && nic.Master == "" {
		bond.Held = []plan.Member{{Name: t.Standby}}
	}
	spread := spreadState(t, r, bond, caps).Spreads[t.Name]
	to, from, err = e.designate(ctx, t, spread, bond)
	if err != nil || from == to || from == "" {
		return from, from, err
	}
	spread = spread.With(to)
	err = e.kernel.Apply(ctx, []plan.Step{plan.SetDesignated{Spread: spread}})
	if err == nil {
		err = e.query(ctx, r, spread.Source)
	}
	return from, to, err
}

// canSpread fails with vswitch.CapabilityMissing where the kernel has no rules for the
// members of a team. They may have been loaded since it was looked at.
func (e *Engine) canSpread(ctx context.Context, t vswitch.Team) error {
	if t.Mode != vswitch.TeamActiveActive {
		return nil
	}
	caps, err := e.capabilities(ctx)
	if err == nil && !caps.MemberRules {
		caps, err = e.probe(ctx)
	}
	if err == nil && !caps.MemberRules {
		return missing(fmt.Sprintf("mode %s: guests would hear frames twice, and their own", t.Mode), memberRulesSymbols, "use mode active-standby")
	}
	return err
}

const memberRulesSymbols = "CONFIG_NF_TABLES_NETDEV, CONFIG_NFT_FWD_NETDEV and CONFIG_NETFILTER_EGRESS (Linux 5.16)"
