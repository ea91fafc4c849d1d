package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// portDrift is how a port differs from its record.
type portDrift struct {
	reservation
	steps []plan.Step
	words []string
	gone  bool // its netdev is not there
}

// portsChanged puts guests' ports right that have to be and whose owners are alive. A
// burst of them is looked up together: to read the store is most of a look.
func (r *reconciler) portsChanged(ctx context.Context, ids []string, p pending) {
	const together = 128
	for some := range slices.Chunk(ids, together) {
		for i, record := range r.lookUp(some...) {
			if ctx.Err() != nil {
				return
			}
			r.portChanged(ctx, some[i], record, p)
		}
	}
}

// portChanged is portsChanged of one port, whose record may be another one by now.
func (r *reconciler) portChanged(ctx context.Context, id string, record portRecord, p pending) {
	if record.err == nil && r.followTap(ctx, record.port) {
		return
	}
	d, err := r.compare(ctx, record)
	if err != nil && ctx.Err() != nil {
		return // the process ends: nothing is wrong with the port
	}
	if errors.Is(err, vswitch.NotFound) {
		r.forgetPort(id)
		return
	}
	object := fmt.Sprintf("port %s (%s)", id, d.port.Owner)
	about := []any{"switch", d.port.Switch, "port", id, "owner", d.port.Owner.String()}
	if err == nil && len(d.steps) == 0 {
		r.ledger.fine(object)
		if !d.gone {
			r.settle(p, d.port.Netdev)
		}
		return
	}
	if !r.mayTry(object, about, d.words) {
		return
	}
	var done bool
	if err == nil || errors.Is(err, errNotRealised) {
		done, d, err = r.repairPort(ctx, id)
	}
	if errors.Is(err, vswitch.NetnsNotFound) || err == nil && !done {
		r.ledger.fine(object) // its owner has ended, or somebody else was quicker
		return
	}
	r.mend(object, about, d.words, err)
}

func (r *reconciler) forgetPort(id string) {
	r.disown(r.met[id].mac, id)
	delete(r.met, id)
	r.ledger.forgetPort(id)
}

// repairPort takes the port's locks, looks again and repairs. A switch that is not
// whole is repaired first.
func (r *reconciler) repairPort(ctx context.Context, id string) (done bool, d portDrift, err error) {
	done, d, err = r.tryRepairPort(ctx, id)
	if errors.Is(err, errNotRealised) {
		if _, _, err = r.repairDrift(ctx, d.port.Switch); err == nil {
			done, d, err = r.tryRepairPort(ctx, id)
		}
	}
	return done, d, err
}

func (r *reconciler) tryRepairPort(ctx context.Context, id string) (done bool, d portDrift, err error) {
	// The lock of its switch comes first, and which one that is the record tells.
	if d, err = r.lookAtPort(ctx, id); err != nil || len(d.steps) == 0 {
		return false, d, ignoreNotFound(err)
	}
	unlock, err := r.store.LockSwitch(d.port.Switch, store.Shared)
	if err != nil {
		return false, d, err
	}
	defer unlock()
	unlockPort, err := r.store.LockPort(id)
	if err != nil {
		return false, d, err
	}
	defer unlockPort()
	if d, err = r.lookAtPort(ctx, id); err != nil || len(d.steps) == 0 {
		return false, d, ignoreNotFound(err)
	}
	ctx = context.WithoutCancel(ctx) // what is begun is finished
	if err = needsRepair(r.kernel.Apply(ctx, d.steps)); err == nil {
		err = r.remirrorFor(ctx, d.port) // tables go by netdevs, not by their names
	}
	return err == nil, d, err
}

// ignoreNotFound: a port that was detached meanwhile needs no repair.
func ignoreNotFound(err error) error {
	if errors.Is(err, vswitch.NotFound) {
		return nil
	}
	return err
}

// lookAtPort looks a port up and compares it with the kernel.
func (r *reconciler) lookAtPort(ctx context.Context, id string) (portDrift, error) {
	return r.compare(ctx, r.lookUp(id)[0])
}

// portRecord is a port as the store has it, or why there is nothing to compare with:
// NotFound if there is no such port.
type portRecord struct {
	reservation
	err error
}

// lookUp reads the records of ports, in their order.
func (e *Engine) lookUp(ids ...string) []portRecord {
	all := make([]portRecord, len(ids))
	err := e.store.View(func(tx *store.Tx) error {
		for i, id := range ids {
			all[i].err = all[i].lookUp(tx, id)
		}
		return nil
	})
	for i := range all {
		if err != nil && all[i].err == nil {
			all[i].err = err
		}
	}
	return all
}

func (p *portRecord) lookUp(tx *store.Tx, id string) (err error) {
	if p.port, err = tx.Port(id); err != nil {
		return err
	}
	realised, found, err := tx.Realised(p.port.Switch)
	if err != nil {
		return err
	}
	if !found || realised.Changing {
		return errNotRealised
	}
	p.record, p.caps = realised.SwitchRecord, realisedCapabilities(realised)
	return nil
}

// compare compares a port's switch end with the kernel. Of a port whose netdev is gone
// all has to be made anew, unless its owner has ended too.
func (r *reconciler) compare(ctx context.Context, record portRecord) (d portDrift, err error) {
	if d.reservation = record.reservation; record.err != nil || !d.port.Plugged() {
		return d, record.err
	}
	whole := portState(d.port, d.record, d.caps)
	side := whole
	side.Endpoint = nil
	scope := plan.Union(plan.State{Ports: map[string]plan.Port{side.Name: side}}, entryState(d.port, d.record, d.caps))
	seen, err := r.kernel.Observe(ctx, plan.Union(scope, plan.State{Ports: earlierRules(d.port).Ports}))
	if err != nil {
		return d, err
	}
	if len(plan.Diff(around(d.port, d.record), withoutEntries(seen, side.Name))) > 0 {
		return d, errNotRealised // its segment's trunk is the switch's to mend
	}
	if _, there := seen.Ports[side.Name]; there {
		r.meet(d.port)
		d.steps = plan.Diff(scope, seen)
		d.words = driftWords(d.steps, seen)
		return d, nil
	}
	d.gone = true
	if d.port.Adopted {
		return d, nil // whoever made it has ended it
	}
	if alive, err := r.alive(d.port); err != nil || !alive {
		return d, err
	}
	anew := plan.Union(plan.State{Ports: map[string]plan.Port{whole.Name: whole}}, entryState(d.port, d.record, d.caps))
	d.steps = plan.Diff(anew, withoutEntries(seen, side.Name))
	d.words = driftWords(d.steps, plan.State{})
	return d, nil
}

// acquaintance is what is remembered of a port that was seen whole.
type acquaintance struct {
	mac   vswitch.MAC
	netns kernel.NetnsID
}

// meet remembers whose a port's address is, and which namespace its owner is in,
// while the port is there.
func (r *reconciler) meet(p vswitch.Port) {
	r.belongs(p.MAC, p.Netdev)
	if _, known := r.met[p.ID]; known {
		return
	}
	who := acquaintance{mac: p.MAC}
	if !p.Adopted {
		var err error
		if who.netns, err = r.kernel.NetnsID(p.Owner.Netns); err != nil {
			return
		}
	}
	r.met[p.ID] = who
}

// alive reports whether a port's owner is still in its namespace: the path leads
// there, and not to another one by now.
func (r *reconciler) alive(p vswitch.Port) (bool, error) {
	now, err := r.kernel.NetnsID(p.Owner.Netns)
	if errors.Is(err, vswitch.NetnsNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if p.NetnsID != 0 {
		return kernel.NetnsID(p.NetnsID) == now, nil
	}
	was, known := r.met[p.ID] // a port of an earlier version
	if !known && strings.HasPrefix(p.Owner.Netns, "/proc/") {
		// A process may have got the number of one that has ended.
		return false, &vswitch.Error{
			Kind: vswitch.Drifted, Err: fmt.Errorf("netdev %s is gone, and whether %s still is the owner's namespace nobody knows", p.Netdev, p.Owner.Netns),
			Hint: fmt.Sprintf("have the runtime add the attachment again, or run `patchbay port delete %s`", p.ID),
		}
	}
	return !known || was.netns == now, nil
}
