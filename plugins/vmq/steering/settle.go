package steering

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// reconcile brings the ledger in line with the NICs, which were looked at: grants whose rule
// is gone are lost, and a NIC without grants is put back as it was found. It is also what
// finishes or undoes whatever a killed process had begun.
func (p *Provider) reconcile() error {
	changed := false
	for _, id := range p.ledger.ids() {
		r := p.ledger.nics[id]
		n, there := p.nics[id]
		switch {
		case !there || n.Index != r.Index:
			p.events.send(event(sdk.NICReset, id, sdk.Ref{}, "the NIC is gone, or its driver was bound anew"))
			for _, g := range r.Grants {
				p.lost(id, g, "the NIC is gone, or its driver was bound anew")
			}
			delete(p.ledger.nics, id)
			changed = true
			continue
		case !n.readable:
			continue // nobody can tell
		}
		for _, g := range slices.Clone(r.Grants) {
			if _, there := n.find(g); !there {
				r.without(g.Port)
				p.lost(id, g, "its rule is gone from the NIC")
				changed = true
			}
		}
		changed = r.adopt(n) || changed
		// What fails is tried again at the next look; what ports hold is true nevertheless.
		done, err := p.settle(r, n)
		if err != nil {
			slog.Error("bring a NIC in line", "nic", n.Netdev, "err", err)
		}
		changed = changed || done
	}
	if !changed {
		return nil
	}
	return p.ledger.save()
}

func (p *Provider) lost(id string, g grant, why string) {
	slog.Warn("a port lost its queue", "port", g.Port, "nic", id, "queue", g.Queue, "why", why)
	p.events.send(event(sdk.GrantLost, id, g.ref(), why))
}

func event(kind sdk.EventKind, id string, ref sdk.Ref, detail string) sdk.Event {
	e := sdk.Event{Kind: kind, Time: time.Now(), NIC: id, Ref: ref, Detail: detail}
	if kind == sdk.GrantLost {
		e.Reason = vswitch.Refused
	}
	return e
}

// adopt takes an indirection table that somebody else set meanwhile for how the NIC was
// found, and reports whether it did. The driver's own is none: it is what a reset leaves.
func (r *record) adopt(n nic) bool {
	if r.applied == nil || slices.Equal(n.table, r.applied) || slices.Equal(n.table, ownTable(len(n.table), n.queues)) {
		return false
	}
	r.Table = n.table
	return true
}

// found is the indirection table without ports.
func (r *record) found(n nic) []uint32 {
	if len(r.Table) == len(n.table) {
		return r.Table
	}
	return ownTable(len(n.table), n.queues)
}

// settle gives a NIC the indirection table that its grants ask for. Without grants it is
// put back as it was found, and its record is removed, which done says.
func (p *Provider) settle(r *record, n nic) (done bool, err error) {
	if err := p.setTable(r, n); err != nil {
		return false, err
	}
	if len(r.Grants) > 0 {
		return false, nil
	}
	// Off, a driver forgets the rules of others as well.
	if !r.NTuple && n.ntuple.On && len(n.rules.All) == 0 {
		if err := p.hardware.SetNTuple(n.Netdev, false); err != nil {
			return false, fmt.Errorf("turn n-tuple filters off: %w", err)
		}
	}
	delete(p.ledger.nics, n.id)
	return true, nil
}

// setTable brings a NIC's indirection table in line.
func (p *Provider) setTable(r *record, n nic) error {
	if len(n.table) == 0 {
		return nil
	}
	want := around(r.found(n), r.Grants)
	if slices.Equal(want, n.table) {
		r.applied = want
		return nil
	}
	set := want
	if len(r.Grants) == 0 && len(r.Table) != len(n.table) {
		set = nil // then the driver goes on to adapt it
	}
	r.applied = nil // nobody knows what comes of one that fails
	if err := p.hardware.SetIndirection(n.Netdev, set); err != nil {
		return fmt.Errorf("set the indirection table: %w", err)
	}
	r.applied = want
	return nil
}

// record is the NIC's, made if this is the first change.
func (p *Provider) record(n nic) *record {
	if r := p.ledger.nics[n.id]; r != nil {
		return r
	}
	r := &record{Index: n.Index, NTuple: n.ntuple.On}
	if !slices.Equal(n.table, ownTable(len(n.table), n.queues)) {
		r.Table = n.table
	}
	p.ledger.nics[n.id] = r
	return r
}

// give gives a queue to a port that has none. What it does is on file before it is done.
func (p *Provider) give(n nic, g grant) (grant, error) {
	r := p.record(n)
	r.Grants = append(slices.Clone(r.Grants), g)
	if err := p.ledger.save(); err != nil {
		r.without(g.Port)
		return grant{}, err
	}
	err := p.steer(r, n, &g)
	if err == nil {
		return g, nil
	}
	r.without(g.Port)
	n, there := p.examine(n.id, n.Adapter)
	if there && n.readable {
		_, undo := p.settle(r, n)
		err = errors.Join(err, undo)
	}
	return grant{}, errors.Join(err, p.ledger.save())
}

// steer makes a NIC do what the record says, whose last grant is g and has no rule yet.
func (p *Provider) steer(r *record, n nic, g *grant) error {
	if !n.ntuple.On {
		if err := p.hardware.SetNTuple(n.Netdev, true); err != nil {
			return fmt.Errorf("turn n-tuple filters on: %w", err)
		}
		var err error
		if n.rules, err = p.hardware.Rules(n.Netdev); err != nil {
			return err
		}
	}
	if err := p.setTable(r, n); err != nil {
		return err
	}
	err := p.insert(n, *g)
	if g.RuleVLAN == 0 || !ethtool.Unfit(err) {
		return err
	}
	// Addresses hardly ever are the same in two VLANs, so the address alone will do.
	g.RuleVLAN = 0
	r.Grants[len(r.Grants)-1] = *g
	if err := p.ledger.save(); err != nil {
		return err
	}
	return p.insert(n, *g)
}

// insert adds the rule of a grant. A driver that does not tell it as it was set is told to
// forget it: nobody would know it again.
func (p *Provider) insert(n nic, g grant) error {
	location, err := p.hardware.Insert(n.Netdev, ethtool.Rule{MAC: g.MAC, VLAN: g.RuleVLAN, Queue: g.Queue}, n.rules)
	if err != nil {
		return err
	}
	if n.rules, err = p.hardware.Rules(n.Netdev); err == nil {
		if _, there := n.find(g); there {
			return nil
		}
		err = errors.New("the rule is not what the driver says that it has")
	}
	if undo := p.hardware.Delete(n.Netdev, location); undo != nil && !ethtool.Gone(undo) {
		err = errors.Join(err, undo)
	}
	return err
}

// take takes a port's queue away.
func (p *Provider) take(id string, g grant) error {
	r, n := p.ledger.nics[id], p.nics[id]
	if !n.readable {
		return fmt.Errorf("the driver of %s does not say which rules it has: %s", n.Netdev, n.detail)
	}
	if rule, there := n.find(g); there {
		if err := p.hardware.Delete(n.Netdev, rule.Location); err != nil && !ethtool.Gone(err) {
			return fmt.Errorf("remove the rule at %d of %s: %w", rule.Location, n.Netdev, err)
		}
	}
	r.without(g.Port)
	n.rules.All = n.foreign(append(slices.Clone(r.Grants), g))
	_, err := p.settle(r, n)
	return errors.Join(err, p.ledger.save())
}
