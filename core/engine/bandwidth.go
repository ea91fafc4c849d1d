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

// This file says what a port's bandwidth means, and admits it.

// limits are what holds back what goes by a port.
func limits(p vswitch.Port) plan.Limits {
	b := p.Policy.Bandwidth
	if b.In.Max == 0 && b.Out.Max == 0 {
		return plan.Limits{}
	}
	l := limiter(p)
	l.To, l.From = plan.ShapeOf(b.In, p.MTU), plan.ShapeOf(b.Out, p.MTU)
	return l
}

// limiter are limits of a port that hold back nothing.
func limiter(p vswitch.Port) plan.Limits {
	return plan.Limits{Via: vswitch.ShaperName(p.ID), Alias: vswitch.Alias("limit", p.Switch, "port="+p.ID)}
}

// anyLimits stand in a scope for whatever limits a port may have.
func anyLimits(p vswitch.Port) plan.Limits {
	l := limiter(p)
	l.To, l.From = plan.InParts(), plan.InParts()
	return l
}

// admitBandwidth refuses limits that the kernel cannot keep.
func admitBandwidth(tx *store.Tx, p vswitch.Port) error {
	if !limits(p).Any() {
		return nil
	}
	var caps kernel.Capabilities
	if _, err := tx.Fact(capabilitiesFact, &caps); err != nil || caps.Limits {
		return err
	}
	return missing("limits of bandwidth", kernel.LimitSymbols, "leave the limit out")
}

// unlimit removes the netdev that limits an adopted port, whose own netdev may have gone
// without it.
func unlimit(p vswitch.Port) []plan.Step {
	if !p.Adopted || limits(p).From.IsZero() && !p.PolicyChanged {
		return nil
	}
	return []plan.Step{plan.DeleteNetdev{Name: vswitch.ShaperName(p.ID)}}
}

// strayShapers removes what limited ports that are not there any more: a namespace that
// ends takes the pair along, and nothing else.
func (e *Engine) strayShapers(ctx context.Context, netdevs []kernel.Netdev) (gone []string, err error) {
	there := make(map[string]bool, len(netdevs))
	for _, n := range netdevs {
		there[n.Name] = true
	}
	var errs []error
	for _, n := range netdevs {
		id, is := vswitch.ShapedPort(n.Name)
		if !is || there[id] {
			continue
		}
		removed, err := e.strayShaper(ctx, n.Name, id)
		if err != nil {
			errs = append(errs, fmt.Errorf("netdev %s: %w", n.Name, err))
		} else if removed {
			gone = append(gone, n.Name)
		}
	}
	return gone, errors.Join(errs...)
}

// strayShaper looks again, now that nobody can make or remove the port.
func (e *Engine) strayShaper(ctx context.Context, netdev, id string) (bool, error) {
	unlock, err := e.store.LockPort(id)
	if err != nil {
		return false, err
	}
	defer unlock()
	port := id
	err = e.store.View(func(tx *store.Tx) error {
		p, err := tx.Port(id)
		if err == nil && p.Adopted {
			port = p.Netdev
		}
		return ignoreNotFound(err)
	})
	if err != nil {
		return false, err
	}
	if _, err := e.kernel.Netdev(ctx, port); !errors.Is(err, vswitch.NotFound) {
		return false, err
	}
	return true, e.kernel.Apply(ctx, []plan.Step{plan.DeleteNetdev{Name: netdev}})
}

// explainLimits tells how a port is limited, and by what.
func explainLimits(limited, bare plan.Port) []Part {
	if !limited.Limits.Any() {
		return nil
	}
	bare.Endpoint = nil
	end := bare
	end.Limits = limited.Limits
	why := "A token bucket (tbf) lets so many bytes a second pass; what comes faster waits in a queue, and what finds that full is dropped."
	if !limited.Limits.From.IsZero() {
		why += " Linux holds back only what leaves a netdev: what the owner sends goes by " + limited.Limits.Via + ", and from there on its way as if it had come in by the port."
	}
	scope := func(p plan.Port) plan.State { return plan.State{Ports: map[string]plan.Port{p.Name: p}} }
	return []Part{{What: "limits", Why: why, Commands: spelled(plan.Diff(scope(end), scope(bare)))}}
}
