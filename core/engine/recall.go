package engine

import (
	"context"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// recallSAs has plugins take back the SAs on NICs that steps take down, as a team's members
// are when they come and go: the kernel ends all SAs that such a NIC holds, and tells nobody.
// They work on in software, until it is decided anew when the steps are done. What a plugin
// does not take back it keeps: the change does not wait for that.
func (e *Engine) recallSAs(ctx context.Context, steps []plan.Step) error {
	down := takenDown(steps)
	if e.hardware == nil || len(down) == 0 {
		return nil
	}
	var ids []string
	for _, n := range e.hardware.Look(ctx).NICs {
		if slices.Contains(down, n.Netdev) {
			ids = append(ids, n.ID)
		}
	}
	var has []store.Grant
	err := e.store.View(func(tx *store.Tx) error {
		all, err := tx.Grants()
		has = slices.DeleteFunc(all, func(g store.Grant) bool {
			return g.Request.Feature != vswitch.IPsec || !slices.Contains(ids, g.Request.NIC)
		})
		return err
	})
	for _, g := range has {
		unlock, lockErr := e.store.LockOffloads(g.Switch)
		if lockErr != nil {
			return lockErr
		}
		_ = e.release(ctx, g) // or it is written that it goes
		unlock()
	}
	return err
}

// takenDown are the netdevs that steps take down, members that leave a bond among them; a
// bond that goes has none left.
func takenDown(steps []plan.Step) (netdevs []string) {
	for _, s := range steps {
		switch s := s.(type) {
		case plan.TakeDown:
			netdevs = append(netdevs, s.Name)
		case plan.RemoveMember:
			netdevs = append(netdevs, s.Member.Name)
		}
	}
	return netdevs
}
