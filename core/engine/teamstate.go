package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file says what teams mean in the kernel, and how transactions have them.

// teamChange is a team on its way from one record to another; nil is none.
type teamChange struct{ old, new *store.TeamRecord }

func (c teamChange) name() string {
	if c.new != nil {
		return c.new.Name
	}
	return c.old.Name
}

// teamState is what a team consists of. Members that are not on the host are left out:
// the others carry on without them. standsIn says that the standby is one of those who
// carry.
func teamState(r store.TeamRecord, mtu int, standsIn bool, there func(nic string) bool) plan.Bond {
	t := r.Normalized()
	b := plan.Bond{
		Name: t.Name, MAC: r.MAC, MTU: mtu, Alias: teamAlias(t.Name), Up: true,
		Options: plan.BondOptions{Monitor: t.Monitor, UpDelay: t.UpDelay, DownDelay: t.DownDelay},
	}
	o := &b.Options
	switch t.Mode {
	case vswitch.TeamActiveStandby:
		o.Mode, o.Reselect = "active-backup", string(t.Reselect)
	case vswitch.TeamActiveActive:
		o.Mode, o.Hash = "balance-xor", "vlan+srcmac"
	case vswitch.TeamStatic:
		o.Mode, o.Hash = "balance-xor", hashPolicy(t.Hash)
	case vswitch.TeamLACP:
		o.Mode, o.Hash, o.MinLinks, o.LACPSlow = "802.3ad", hashPolicy(t.Hash), t.MinLinks, t.LACPRate == vswitch.LACPSlow
	}
	preference := t.Preference()
	for _, m := range t.Members {
		if !there(m) {
			continue
		}
		member := plan.Member{Name: m, Released: plan.Released{Up: !slices.Contains(r.Down, m)}}
		if t.Mode == vswitch.TeamActiveStandby {
			member.Prio = len(preference) - slices.Index(preference, m)
			if m == t.Primary {
				o.Primary = m
			}
		}
		if m == t.Standby && !standsIn {
			b.Held = append(b.Held, member)
			continue
		}
		b.Members = append(b.Members, member)
	}
	return b
}

func teamAlias(name string) string { return vswitch.AliasPrefix + "team name=" + name }

// isTeam reports that a netdev is a team of ours.
func isTeam(n kernel.Netdev) bool { return n.Kind == "bond" && n.Alias == teamAlias(n.Name) }

// hashPolicy is bonding's word. There is none for IP addresses alone: that they are
// mixed with the MAC addresses changes nothing for a flow.
func hashPolicy(h vswitch.TeamHash) string {
	switch h {
	case vswitch.HashIPAddresses:
		return "layer2+3"
	case vswitch.HashMACAddresses:
		return "layer2"
	}
	return "layer3+4"
}

func (t *transaction) newTeams() (records []store.TeamRecord) {
	for _, c := range t.teams {
		if c.new != nil {
			records = append(records, *c.new)
		}
	}
	return records
}

// outcomeTeams is every team of the host as it is after the transaction.
func (t *transaction) outcomeTeams(tx *store.Tx) ([]store.TeamRecord, error) {
	records, err := tx.Teams()
	records = slices.DeleteFunc(records, func(r store.TeamRecord) bool {
		return slices.ContainsFunc(t.teams, func(c teamChange) bool { return c.name() == r.Name })
	})
	return append(records, t.newTeams()...), err
}

// beginTeams notes that the teams are not as realised any more.
func (t *transaction) beginTeams(tx *store.Tx) error {
	for _, c := range t.teams {
		was, found, err := tx.RealisedTeam(c.name())
		if err != nil {
			return err
		}
		if !found && c.old != nil { // one that a killed process had not made whole, or a switch on it has
			was.TeamRecord, found = *c.old, true
		}
		if !found || was.Changing {
			continue
		}
		was.Changing = true
		if err := tx.PutRealisedTeam(was); err != nil {
			return err
		}
	}
	return nil
}

// toTheEnd brings a team to what its record says.
func toTheEnd(r store.TeamRecord) teamChange {
	if r.Going {
		return teamChange{old: &r}
	}
	return teamChange{new: &r}
}

// unfinishedTeams are the changes of teams that a process was killed in.
func unfinishedTeams(tx *store.Tx) (changes []teamChange, err error) {
	records, err := tx.Teams()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		was, found, err := tx.RealisedTeam(r.Name)
		if err != nil {
			return nil, err
		}
		if r.Going || found && was.Changing {
			changes = append(changes, toTheEnd(r))
		}
	}
	return changes, nil
}

// collectTeams looks up what the kernel may have of the teams.
func (t *transaction) collectTeams(tx *store.Tx) error {
	t.fromTeams = nil
	for _, c := range t.teams {
		if c.old != nil {
			t.fromTeams = append(t.fromTeams, *c.old)
		}
		was, found, err := tx.RealisedTeam(c.name())
		if err != nil {
			return err
		}
		if found {
			t.fromTeams = append(t.fromTeams, was.TeamRecord)
		}
	}
	return nil
}

// intendTeams writes what the teams become; one that goes stays written until it is
// gone, with the note that it does.
func (t *transaction) intendTeams(tx *store.Tx) error {
	for _, c := range t.teams {
		if c.new != nil {
			c.new.Going = false
		}
		r := c.new
		if r == nil {
			going := *c.old
			going.Going = true
			r = &going
		}
		if err := tx.PutTeam(*r); err != nil {
			return err
		}
	}
	return nil
}

// concludeTeams forgets the teams that are gone and notes that the others are there.
func (t *transaction) concludeTeams(tx *store.Tx) error {
	for _, c := range t.teams {
		var err error
		if c.new != nil {
			err = tx.PutRealisedTeam(store.RealisedTeam{TeamRecord: *c.new})
		} else {
			err = errors.Join(
				tx.DropRealisedTeam(c.old.Name), tx.DropHosted(teamNote(c.old.Name)),
				tx.DropKeptForHost(teamNote(c.old.Name)), tx.DeleteTeam(c.old.Name),
			)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// placeTeams adds the bonds to the states: those that change, and those that the
// switches of the transaction stand on.
func (e *Engine) placeTeams(ctx context.Context, t *transaction, desired, had *plan.State) error {
	var teams []store.TeamRecord
	var switches []store.SwitchRecord
	err := e.store.View(func(tx *store.Tx) (err error) {
		if teams, err = t.outcomeTeams(tx); err != nil {
			return err
		}
		switches, err = t.outcome(tx)
		return err
	})
	if err != nil || len(teams)+len(t.fromTeams) == 0 {
		return err
	}
	netdevs, err := e.kernel.Netdevs(ctx)
	if err != nil {
		return err
	}
	there := func(nic string) bool {
		return slices.ContainsFunc(netdevs, func(n kernel.Netdev) bool { return n.Name == nic })
	}
	put := func(s *plan.State, b plan.Bond) {
		*s = plan.Union(*s, plan.State{Bonds: map[string]plan.Bond{b.Name: b}})
	}
	for _, r := range teams {
		mtu, concerned := r.MTU, slices.ContainsFunc(t.teams, func(c teamChange) bool { return c.name() == r.Name })
		for _, s := range switches {
			if s.Uplink == r.Name {
				mtu = s.EffectiveMTU
				concerned = concerned || slices.Contains(t.names(), s.Name)
			}
		}
		concerned = concerned || slices.ContainsFunc(t.from, func(s store.SwitchRecord) bool { return s.Uplink == r.Name })
		if !concerned {
			continue
		}
		standsIn, err := e.standbyIn(ctx, t, r.Team)
		if err != nil {
			return err
		}
		put(desired, teamState(r, mtu, standsIn, there))
		silence(desired, r, there)
	}
	for _, r := range t.fromTeams {
		put(had, teamState(r, r.MTU, false, func(string) bool { return true }))
		unsilence(desired, r, there)
	}
	if desired.Ports == nil {
		desired.Ports = make(map[string]plan.Port)
	}
	freeMembers(netdevs, *desired, *had)
	if err := e.placeSpread(ctx, t, teams, desired, had); err != nil {
		return err
	}
	return e.placeShares(t, switches, desired, had)
}

// freeMembers sees to NICs that were to be members and are not any more: a process that
// was killed may have taken them down and come no further.
func freeMembers(netdevs []kernel.Netdev, desired, had plan.State) {
	for _, bond := range had.Bonds {
		for _, m := range slices.Concat(bond.Members, bond.Held) {
			at := slices.IndexFunc(netdevs, func(n kernel.Netdev) bool { return n.Name == m.Name })
			if at < 0 || !m.Released.Up || netdevs[at].Up || netdevs[at].Master != "" || isMemberOf(desired.Bonds, m.Name) {
				continue
			}
			if _, port := desired.Ports[m.Name]; !port {
				desired.Ports[m.Name] = plan.Port{Name: m.Name, MTU: netdevs[at].MTU, Up: true}
			}
		}
	}
}

func isMemberOf(bonds map[string]plan.Bond, nic string) bool {
	for _, b := range bonds {
		if slices.ContainsFunc(slices.Concat(b.Members, b.Held), func(m plan.Member) bool { return m.Name == nic }) {
			return true
		}
	}
	return false
}

// foreseen is a host as it will be once its teams are as they shall be: a team that is
// not there yet has nothing on it, and a NIC that leaves one is nobody's. Verbs look at
// it to judge uplinks.
type foreseen struct {
	kernel.Kernel
	teams func() ([]store.TeamRecord, error)
}

// Netdev is Kernel's.
func (f foreseen) Netdev(ctx context.Context, name string) (kernel.Netdev, error) {
	n, err := f.Kernel.Netdev(ctx, name)
	switch {
	case errors.Is(err, vswitch.NotFound):
		r, found, lookup := f.team(name)
		if !found || lookup != nil {
			return n, err
		}
		return kernel.Netdev{Name: name, Kind: "bond", MAC: r.MAC, MTU: r.MTU, Alias: teamAlias(name), Ethernet: true}, nil
	case err == nil && n.Master != "":
		return f.leaving(ctx, n)
	}
	return n, err
}

// leaving is a NIC as it will be when it has left its team: with its own address.
func (f foreseen) leaving(ctx context.Context, n kernel.Netdev) (kernel.Netdev, error) {
	bond, err := f.Kernel.Netdev(ctx, n.Master)
	if err != nil || !isTeam(bond) {
		return n, nil //nolint:nilerr // its master is as good as the name says
	}
	if r, found, err := f.team(n.Master); err != nil || found && slices.Contains(r.Members, n.Name) {
		return n, err
	}
	state, err := f.Team(ctx, n.Master)
	for _, m := range state.Members {
		if m.Name == n.Name && !m.MAC.IsZero() {
			n.MAC = m.MAC
		}
	}
	n.Master = ""
	return n, err
}

// Addressing is Kernel's.
func (f foreseen) Addressing(ctx context.Context, netdev string) (plan.Addressing, error) {
	a, err := f.Kernel.Addressing(ctx, netdev)
	if !errors.Is(err, vswitch.NotFound) {
		return a, err
	}
	if _, found, lookup := f.team(netdev); found && lookup == nil {
		return plan.Addressing{}, nil
	}
	return a, err
}

func (f foreseen) team(name string) (r store.TeamRecord, found bool, err error) {
	teams, err := f.teams()
	at := slices.IndexFunc(teams, func(r store.TeamRecord) bool { return r.Name == name })
	if at < 0 {
		return r, false, err
	}
	return teams[at], true, err
}

// foreseeing is the engine on the host as it will be when teams have changed.
func (e *Engine) foreseeing(changes ...teamChange) *Engine {
	t := &transaction{teams: changes}
	return e.on(foreseen{Kernel: e.kernel, teams: func() (teams []store.TeamRecord, err error) {
		err = e.store.View(func(tx *store.Tx) (err error) {
			teams, err = t.outcomeTeams(tx)
			return err
		})
		return teams, err
	}})
}

// on is the same engine with another look at the kernel. It leaves plugins to the arbiter.
func (e *Engine) on(k kernel.Kernel) *Engine {
	other := &Engine{kernel: k, store: e.store, now: e.now, root: e.root, sizes: e.sizes, hardware: e.hardware, denials: e.denials}
	other.resident.Store(e.resident.Load())
	other.arbiter.Store(e.arbiter.Load())
	return other
}

// actual is the engine on the host as it is: what was judged is to be carried out.
func (e *Engine) actual() *Engine {
	f, looking := e.kernel.(foreseen)
	if !looking {
		return e
	}
	return e.on(f.Kernel)
}
