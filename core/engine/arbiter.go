package engine

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// arbiter carries out what is decided about offloads, while an engine is resident: it decides
// again whenever ports, links or plugins change, and sleeps in between.
type arbiter struct {
	*Engine
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex
	stirred map[string]bool // plugins whose grants have to be counted again
	tries   int             // rounds in a row in which something failed
}

func newArbiter(e *Engine, log *slog.Logger) *arbiter {
	return &arbiter{Engine: e, log: log, wake: make(chan struct{}, 1), stirred: make(map[string]bool)}
}

// offloadsChanged has it decided again what uplinks do for ports. It costs nothing where
// nobody is resident.
func (e *Engine) offloadsChanged() {
	if a := e.arbiter.Load(); a != nil {
		rouse(a.wake)
	}
}

// run is the arbiter's life.
func (a *arbiter) run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		a.hardware.Watch(ctx, func(plugin string) {
			a.mu.Lock()
			a.stirred[plugin] = true
			a.mu.Unlock()
			rouse(a.wake)
		})
	})
	for {
		err := a.round(ctx)
		if ctx.Err() != nil {
			return
		}
		retry := a.retry(err)
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
			gather(ctx)
		case <-retry:
		}
	}
}

// retry is when a round in which something failed is repeated, if nothing happens before.
func (a *arbiter) retry(err error) <-chan time.Time {
	if err == nil {
		a.tries = 0
		return nil
	}
	a.tries++
	a.log.Warn("offloads are not as decided", "err", err, "next try", backoff(a.tries))
	return time.After(backoff(a.tries))
}

// round brings all that plugins do for ports to what is decided. It goes on after errors.
func (a *arbiter) round(ctx context.Context) error {
	a.mu.Lock()
	stirred := a.stirred
	a.stirred = make(map[string]bool)
	a.mu.Unlock()
	var errs []error
	for _, plugin := range slices.Sorted(maps.Keys(stirred)) {
		errs = append(errs, a.recount(ctx, plugin))
	}
	if idle, err := a.idle(ctx); idle || err != nil {
		return err
	}
	records, err := a.records()
	errs = append(errs, err, a.sweep(ctx))
	for _, r := range records {
		if ctx.Err() == nil {
			lost, err := a.arbitrate(ctx, r.Name)
			errs = append(errs, err)
			for _, port := range lost {
				errs = append(errs, a.refit(ctx, r.Name, port))
			}
		}
	}
	a.log.Debug("offloads are decided", "switches", len(records))
	return errors.Join(errs...)
}

// idle reports that there is nothing to decide about: no plugin serves a NIC, and no port has
// anything.
func (a *arbiter) idle(ctx context.Context) (idle bool, err error) {
	if len(a.hardware.Look(ctx).NICs) > 0 {
		return false, nil
	}
	err = a.store.View(func(tx *store.Tx) error {
		grants, err := tx.Grants()
		idle = len(grants) == 0
		return err
	})
	return idle, err
}

// recount asks a plugin what ports have by it: what it does not know of any more is given
// anew, and what nobody has a record of is taken back.
func (a *arbiter) recount(ctx context.Context, plugin string) error {
	now, err := a.hardware.Grants(ctx, plugin)
	if err != nil {
		if kind := vswitch.KindOf(err); kind == vswitch.PluginFailed || kind == vswitch.NotFound {
			return nil // whoever decides finds out, and the plugin tells when it is there again
		}
		return err
	}
	knows := make(map[vswitch.OffloadRef]vswitch.OffloadGrant, len(now))
	for _, g := range now {
		knows[g.OffloadRef] = g
	}
	err = a.store.Update(func(tx *store.Tx) error {
		records, err := tx.Grants()
		for _, r := range records {
			g, known := knows[r.Request.OffloadRef]
			if delete(knows, r.Request.OffloadRef); r.Plugin != plugin || r.Given == nil || known && g.Generation == r.Given.Generation {
				continue
			}
			r.Given = nil
			if err := tx.PutGrant(r); err != nil {
				return err
			}
		}
		for _, g := range knows { // of a run file that is lost
			r := store.Grant{Plugin: plugin, Going: true, Request: vswitch.OffloadRequest{OffloadRef: g.OffloadRef, NIC: g.NIC, Generation: g.Generation}}
			if err := tx.PutGrant(r); err != nil {
				return err
			}
		}
		return err
	})
	return err
}

// sweep takes back what ports have that are no more.
func (a *arbiter) sweep(ctx context.Context) error {
	var lost []store.Grant
	err := a.store.View(func(tx *store.Tx) error {
		grants, err := tx.Grants()
		if err != nil || len(grants) == 0 {
			return err
		}
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		hosts := make(map[string]bool)
		for _, r := range records {
			if r.HostPort() {
				hosts[hostPort(r).ID] = true
			}
		}
		for _, g := range grants {
			_, err := tx.Port(g.Request.Port)
			if gone := errors.Is(err, vswitch.NotFound) && !hosts[g.Request.Port]; gone || g.Going && g.Switch == "" {
				lost = append(lost, g)
			} else if err != nil && !errors.Is(err, vswitch.NotFound) {
				return err
			}
		}
		return nil
	})
	errs := []error{err}
	for _, g := range lost {
		errs = append(errs, a.sweepGrant(ctx, g.Request.OffloadRef))
	}
	return errors.Join(errs...)
}

// sweepGrant takes a grant back, unless its port has come again meanwhile.
func (a *arbiter) sweepGrant(ctx context.Context, ref vswitch.OffloadRef) error {
	unlock, err := a.store.LockPort(ref.Port)
	if err != nil {
		return err
	}
	defer unlock()
	var g store.Grant
	var goes bool
	err = a.store.View(func(tx *store.Tx) error {
		grants, err := tx.Grants()
		for _, now := range grants {
			if now.Request.OffloadRef == ref {
				_, err := tx.Port(ref.Port)
				g, goes = now, err != nil || now.Going
			}
		}
		return err
	})
	if err != nil || !goes {
		return err
	}
	return a.takeBack(ctx, g)
}

func (a *arbiter) takeBack(ctx context.Context, g store.Grant) error {
	err := a.release(ctx, g)
	if err == nil {
		a.log.Info("offload taken back", "port", g.Request.Port, "feature", string(g.Request.Feature), "plugin", g.Plugin, "nic", g.Request.NIC)
	}
	return err
}

// arbitrate brings what a switch's uplink does for its ports to what is decided. It returns
// the ports whose VF is lost, and those with failover that may have one again.
func (a *arbiter) arbitrate(ctx context.Context, switchName string) (lost []string, err error) {
	unlock, err := a.store.LockOffloads(switchName)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := a.judge(ctx, switchName)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	errs := []error{a.yield(ctx, &v, func(g store.Grant) error { return a.takeBack(ctx, g) })}
	for _, d := range v.decisions {
		_, given := v.given(d.Port, d.Feature)
		switch {
		case ctx.Err() != nil:
		case v.loses(d) || v.gains(d):
			lost = append(lost, d.Port)
		case !asksPlugin(d):
		case d.Feature != vswitch.SRIOV || given:
			errs = append(errs, a.give(ctx, &v, d))
		case v.ports[d.Port].VF != "":
			lost = append(lost, d.Port)
		}
	}
	return lost, errors.Join(errs...)
}

// refit gives a container another VF in place of one that its NIC has lost by a reset. One with
// failover goes on without it where it gets none.
func (a *arbiter) refit(ctx context.Context, switchName, port string) error {
	unlock, err := a.store.LockSwitch(switchName, store.Shared)
	if err != nil {
		return err
	}
	defer unlock()
	unlockPort, err := a.store.LockPort(port)
	if err != nil {
		return err
	}
	defer unlockPort()
	now := a.lookUp(port)[0]
	if now.err != nil || !now.port.Failover && now.port.VF == "" || now.port.Switch != switchName {
		return ignoreNotFound(now.err)
	}
	bare := now.port
	bare.VF = ""
	equipped, err := a.equip(ctx, bare, true)
	switch {
	case now.port.Failover && (err != nil || equipped.VF == ""):
		if now.port.VF == "" {
			return err
		}
		equipped = bare
	case err != nil || equipped.VF == "":
		return err
	}
	had := attachedState(now.port, now.record, now.caps)
	now.port = equipped
	if err := a.store.Update(func(tx *store.Tx) error { return tx.PutPort(equipped) }); err != nil {
		return err
	}
	if equipped.VF == "" {
		a.log.Info("VF lost, the standby carries on", "port", port)
	} else {
		a.log.Info("VF given anew", "port", port, "vf", equipped.VF)
	}
	return errors.Join(err, a.reach(ctx, attachedState(equipped, now.record, now.caps), had))
}

// give is ensure, and tells of what is new.
func (a *arbiter) give(ctx context.Context, v *verdict, d vswitch.OffloadDecision) error {
	ref := vswitch.OffloadRef{Port: d.Port, Feature: d.Feature}
	had := v.grants[ref].Given
	if err := a.ensure(ctx, v, d); err != nil {
		return err
	}
	if g := v.grants[ref]; g.Given != had {
		a.log.Info("offload given", "port", d.Port, "feature", string(d.Feature), "plugin", g.Plugin, "nic", g.Given.NIC)
	}
	return nil
}

// yield has taken back what ports have by now that others are to have: before those ask for it.
// A VF leaves its owner's bond first. That the port has it no more is written by who has the
// port's lock: until then it looks lost.
func (e *Engine) yield(ctx context.Context, v *verdict, takeBack func(store.Grant) error) error {
	var errs []error
	for _, d := range v.decisions {
		g, has := v.grants[vswitch.OffloadRef{Port: d.Port, Feature: d.Feature}]
		if !has || asksPlugin(d) || !v.mayLose(d) {
			continue
		}
		var err error
		if v.loses(d) {
			err = e.kernel.Apply(ctx, plan.Diff(plan.State{}, lentState(v.ports[d.Port])))
		}
		if err == nil {
			err = takeBack(g)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mayLose reports whether what a port has and should not have can be taken back now: not a
// VF that is all that its owner has, nor anything by a plugin that does not answer.
func (v *verdict) mayLose(d vswitch.OffloadDecision) bool {
	return (d.Feature != vswitch.SRIOV || v.ports[d.Port].Failover) && d.Reason != vswitch.ProviderFailed && d.Reason != vswitch.NoDaemon
}

// gains reports that a port with failover is to have a VF and works without one, whoever was
// killed over it.
func (v *verdict) gains(d vswitch.OffloadDecision) bool {
	return d.Feature == vswitch.SRIOV && d.Effective && v.ports[d.Port].Failover && v.ports[d.Port].VF == ""
}

// loses reports that a decision takes the VF from a port with failover.
func (v *verdict) loses(d vswitch.OffloadDecision) bool {
	return d.Feature == vswitch.SRIOV && !d.Effective && v.ports[d.Port].Failover && v.ports[d.Port].VF != "" && v.mayLose(d)
}
