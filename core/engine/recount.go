package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// recount asks a plugin what ports have by it: how much of it, and why not all, is written down,
// what it does not know of any more is given anew, and what nobody has a record of is taken
// back. It returns the ports whose VFs their owners may have lost, with the VFs' netdevs on the
// host, "" for none, and whether anything is to be had by another port, or anew.
//
// Nobody waits for a plugin that makes its list: of what was asked for or taken back meanwhile
// the list may say what was before. That is left as it is, and counted again.
func (a *arbiter) recount(ctx context.Context, plugin string) (doubtful map[string]string, another bool, err error) {
	before, err := a.grants()
	if err != nil {
		return nil, true, err
	}
	now, err := a.hardware.Grants(ctx, plugin)
	if err != nil {
		_, failed := a.hardware.Look(ctx).Failed[plugin]
		if failed || vswitch.KindOf(err) == vswitch.NotFound {
			return nil, true, nil // whoever decides finds out, and the plugin tells when it is there again
		}
		return nil, true, err
	}
	doubtful = make(map[string]string)
	knows := make(map[vswitch.OffloadRef]vswitch.OffloadGrant, len(now))
	for _, g := range now {
		knows[g.OffloadRef] = g
		if g.VF != nil && g.VF.Netdev != "" {
			doubtful[g.Port] = g.VF.Netdev
		}
	}
	err = a.store.Update(func(tx *store.Tx) error {
		records, err := tx.Grants()
		for _, r := range records {
			g, known := knows[r.Request.OffloadRef]
			if delete(knows, r.Request.OffloadRef); r.Plugin != plugin {
				continue
			}
			if !reflect.DeepEqual(r, before[r.Request.OffloadRef]) {
				a.stir(plugin)
				continue
			}
			if !recounted(&r, g, known) {
				continue
			}
			another = another || r.Given == nil
			if r.Given == nil && r.Request.Feature == vswitch.SRIOV {
				doubtful[r.Request.Port] = ""
			}
			if err := tx.PutGrant(r); err != nil {
				return err
			}
		}
		return err
	})
	if err == nil {
		err = a.disown(ctx, plugin, knows)
	}
	return doubtful, another || len(knows) > 0, err
}

// mostStrangers is how many grants that nobody has a record of are taken back at a time: a
// plugin may make them up, and others wait meanwhile.
const mostStrangers = 256

// disown takes back what a plugin says that ports have, and nobody has a record of, as where the
// run file is lost. Who asks for the same meanwhile does so with a greater generation, and has it.
func (a *arbiter) disown(ctx context.Context, plugin string, strangers map[vswitch.OffloadRef]vswitch.OffloadGrant) error {
	n := 0
	for ref, g := range strangers {
		if n == mostStrangers {
			return fmt.Errorf("plugin %s tells of %d grants that nobody asked for; the rest is taken back with the next try", plugin, len(strangers))
		}
		if err := a.hardware.Release(ctx, plugin, ref, g.Generation); err != nil {
			return err
		}
		n++
	}
	if n > 0 {
		a.log.Warn("what nobody asked for is taken back", "plugin", plugin, "grants", n)
	}
	return nil
}

// grants are all records of grants.
func (a *arbiter) grants() (map[vswitch.OffloadRef]store.Grant, error) {
	all := make(map[vswitch.OffloadRef]store.Grant)
	err := a.store.View(func(tx *store.Tx) error {
		records, err := tx.Grants()
		for _, r := range records {
			all[r.Request.OffloadRef] = r
		}
		return err
	})
	return all, err
}

// recounted brings a record to what its plugin says by now, and reports whether it was another.
// What was asked for last is in effect too if who asked was killed before it wrote that down.
func recounted(r *store.Grant, now vswitch.OffloadGrant, known bool) bool {
	if r.Given == nil {
		return false
	}
	vf := now.VF != nil && r.Given.VF != nil
	another := vf && (now.NIC != r.Given.NIC || now.VF.Index != r.Given.VF.Index)
	if !known || another || now.Generation != r.Given.Generation && now.Generation != r.Request.Generation {
		r.Given = nil
		return true
	}
	if vf {
		now.VF = r.Given.VF // under the name that its netdev was given with
	}
	if reflect.DeepEqual(now, *r.Given) {
		return false
	}
	r.Given = &now
	return true
}

// reclaim takes VFs back that their owners have lost, all at the same time: until its NIC
// forgets a VF it passes nothing to the standby beside it.
func (a *arbiter) reclaim(ctx context.Context, doubtful map[string]string) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for port, netdev := range doubtful {
		all.Go(func() {
			err := a.reclaimVF(ctx, port, netdev)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// reclaimVF takes a VF back whose netdev is on the host while its owner lives, as where somebody
// took its driver off and put it on again: it is given anew as if nobody had had it. Where the
// owner's namespace has ended, the VF waits for GC or DEL. Whoever is attaching the port has
// its lock.
func (a *arbiter) reclaimVF(ctx context.Context, port, netdev string) error {
	unlock, err := a.store.LockPort(port)
	if err != nil {
		return err
	}
	defer unlock()
	now := a.lookUp(port)[0]
	if now.err != nil || now.port.VF == "" || netdev == "" && !now.port.Failover {
		return ignoreNotFound(now.err)
	}
	switch id, err := a.kernel.NetnsID(now.port.Owner.Netns); {
	case errors.Is(err, vswitch.NetnsNotFound) || err == nil && now.port.NetnsID != 0 && kernel.NetnsID(now.port.NetnsID) != id:
		return nil
	case err != nil:
		return err
	}
	if has, err := a.lends(ctx, now.port); has || err != nil {
		return err
	}
	if netdev != "" {
		if _, err := a.kernel.Netdev(ctx, netdev); err != nil {
			return ignoreNotFound(err)
		}
		a.log.Warn("VF came back to the host while its owner lives", "port", port, "vf", netdev)
	}
	g, has, err := a.grantOf(vswitch.OffloadRef{Port: port, Feature: vswitch.SRIOV})
	if !has || err != nil {
		return err
	}
	return a.takeBack(ctx, g)
}

// lends reports whether a port's owner has the VF that it was given.
func (e *Engine) lends(ctx context.Context, p vswitch.Port) (bool, error) {
	if p.VF == "" {
		return false, nil
	}
	seen, err := e.kernel.Observe(ctx, lentState(p))
	_, has := seen.Lent[p.ID]
	return has, err
}
