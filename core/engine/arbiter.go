package engine

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
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
	log      *slog.Logger
	wake     chan struct{}
	standbys standbys

	mu      sync.Mutex
	stirred map[string]bool // plugins whose grants have to be counted again
	due     bool            // it has to be decided again, whatever plugins tell

	seen  vswitch.OffloadInventory // by which it was decided last
	tries int                      // repetitions in a row in which something failed
}

func newArbiter(e *Engine, log *slog.Logger) *arbiter {
	return &arbiter{Engine: e, log: log, wake: make(chan struct{}, 1), stirred: make(map[string]bool), due: true}
}

// offloadsChanged has it decided again what uplinks do for ports. It costs nothing where
// nobody is resident.
func (e *Engine) offloadsChanged() {
	if a := e.arbiter.Load(); a != nil {
		a.mu.Lock()
		a.due = true
		a.mu.Unlock()
		rouse(a.wake)
	}
}

// stir has a plugin's grants counted again.
func (a *arbiter) stir(plugin string) {
	a.doubt(plugin)
	rouse(a.wake)
}

// doubt has a plugin's grants counted with the next round.
func (a *arbiter) doubt(plugin string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stirred[plugin] = true
}

// run is the arbiter's life.
func (a *arbiter) run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		a.hardware.Watch(ctx, a.stir)
	})
	var retry <-chan time.Time
	for {
		err := a.round(ctx)
		if ctx.Err() != nil {
			return
		}
		retry = a.retry(err, retry)
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
			gather(ctx)
		case <-retry:
			retry = nil
		}
	}
}

// retry is when a round in which something failed is repeated, if nothing happens before. What
// happens before does not put off a repetition that was pending.
func (a *arbiter) retry(err error, pending <-chan time.Time) <-chan time.Time {
	if err == nil {
		a.tries = 0
		return nil
	}
	a.mu.Lock()
	a.due = true
	a.mu.Unlock()
	if pending != nil {
		a.log.Warn("offloads are still not as decided", "err", err)
		return pending
	}
	a.tries++
	a.log.Warn("offloads are not as decided", "err", err, "next try", backoff(a.tries))
	return time.After(backoff(a.tries))
}

// round brings all that plugins do for ports to what is decided. It goes on after errors.
// Where plugins tell of nothing but other SAs, which may be often, all is as it was decided.
func (a *arbiter) round(ctx context.Context) error {
	a.mu.Lock()
	stirred, due := a.stirred, a.due
	a.stirred, a.due = make(map[string]bool), false
	a.mu.Unlock()
	var errs []error
	for _, plugin := range slices.Sorted(maps.Keys(stirred)) {
		doubtful, another, err := a.recount(ctx, plugin)
		if err != nil {
			a.doubt(plugin)
		}
		errs = append(errs, err, a.reclaim(ctx, doubtful))
		due = due || another || len(doubtful) > 0 || err != nil
	}
	seen := a.hardware.Look(ctx)
	if !due && reflect.DeepEqual(seen, a.seen) {
		a.log.Debug("offloads are counted")
		return nil
	}
	a.seen = seen
	if idle, err := a.idle(ctx); idle || err != nil {
		return errors.Join(append(errs, err)...)
	}
	records, err := a.records()
	errs = append(errs, err, a.sweep(ctx))
	a.standbys.begin(a.hardware.Look(ctx))
	for _, r := range records {
		if ctx.Err() == nil {
			lost, err := a.arbitrate(ctx, r.Name)
			errs = append(errs, err)
			for _, port := range lost {
				errs = append(errs, a.refit(ctx, r.Name, port))
			}
		}
	}
	a.standbys.end()
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
			if errors.Is(err, vswitch.NotFound) && !hosts[g.Request.Port] {
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
	g, has, err := a.grantOf(ref)
	if !has || err != nil {
		return err
	}
	if now := a.lookUp(ref.Port)[0]; !g.Going && !errors.Is(now.err, vswitch.NotFound) {
		return nil
	}
	return a.takeBack(ctx, g)
}

// grantOf is what is written of a port's feature now.
func (e *Engine) grantOf(ref vswitch.OffloadRef) (g store.Grant, has bool, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		grants, err := tx.Grants()
		i := slices.IndexFunc(grants, func(g store.Grant) bool { return g.Request.OffloadRef == ref })
		if has = i >= 0; has {
			g = grants[i]
		}
		return err
	})
	return g, has, err
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
	a.relearn(ctx, &v)
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
	g, has, err := a.grantOf(vswitch.OffloadRef{Port: port, Feature: vswitch.SRIOV})
	if err != nil || now.port.VF != "" && has && g.Given != nil && !g.Going {
		return err // it was being attached
	}
	bare, wanted := now.port, now.port
	bare.VF = ""
	if has, err := a.lends(ctx, now.port); err != nil {
		return err
	} else if !has {
		wanted = bare
	}
	equipped, err := a.equip(ctx, wanted, true)
	switch {
	case now.port.Failover && (err != nil || equipped.VF == ""):
		if now.port.VF == "" {
			return err
		}
		equipped = bare
	case err != nil || equipped.VF == "":
		return err
	}
	if equipped.VF == now.port.VF {
		if has, err := a.lends(ctx, now.port); has || err != nil {
			return err // it was not lost, whatever its plugin could not see for a moment
		}
	}
	had := attachedState(now.port, now.record, now.caps)
	now.port = equipped
	if err := a.store.Update(func(tx *store.Tx) error { return tx.PutPort(equipped) }); err != nil {
		return err
	}
	if err := a.reach(ctx, attachedState(equipped, now.record, now.caps), had); err != nil {
		return err
	}
	if equipped.VF == "" {
		a.log.Info("VF lost, the standby carries on", "port", port)
	} else {
		a.log.Info("VF given anew", "port", port, "vf", equipped.VF)
	}
	return nil
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
		if err == nil {
			delete(v.grants, g.Request.OffloadRef)
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
