package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// standbys are the ports with a standby that a switch has forgotten, or will when their VFs
// carry all: it learns where they are while they go by the pair, and frames of other ports would
// still be sent there, where nobody takes them any more.
type standbys struct {
	links map[string]bool   // the NICs that had a link when last seen
	came  map[string]bool   // those that have one since
	known map[string]uint64 // the generations of VFs that were seen to
	now   map[string]uint64 // those of this round

	waits sync.Map // ports whose VF is waited for
}

func (s *standbys) begin(has vswitch.OffloadInventory) {
	links := make(map[string]bool)
	s.came, s.now = make(map[string]bool), make(map[string]uint64)
	for _, nic := range has.NICs {
		links[nic.ID], s.came[nic.ID] = nic.Link, nic.Link && !s.links[nic.ID]
	}
	s.links = links
}

func (s *standbys) end() { s.known = s.now }

// relearn sees to the ports of a switch whose VFs are new, or whose NIC has its link again.
func (a *arbiter) relearn(ctx context.Context, v *verdict) {
	for id, p := range v.ports {
		g, given := v.given(id, vswitch.SRIOV)
		if !p.Failover || p.VF == "" || !given {
			continue
		}
		a.standbys.now[id] = g.Request.Generation
		if a.standbys.known[id] == g.Request.Generation && !a.standbys.came[g.Request.NIC] {
			continue
		}
		if _, waits := a.standbys.waits.LoadOrStore(id, true); !waits {
			go a.forgetStandby(context.WithoutCancel(ctx), p)
		}
	}
}

// linkPatience is for how long a VF's link is waited for.
const linkPatience = 5 * time.Minute

// forgetStandby has a switch forget a port, as soon as that works by its VF. Nobody waits for it.
func (a *arbiter) forgetStandby(ctx context.Context, p vswitch.Port) {
	defer a.standbys.waits.Delete(p.ID)
	if unlock, err := a.store.LockPort(p.ID); err == nil { // it may be being attached
		unlock()
	}
	err := a.kernel.Apply(ctx, []plan.Step{plan.AwaitTwin{Endpoint: lentState(p).Lent[p.ID].Endpoint, Patience: linkPatience}})
	if err == nil {
		err = a.unlearn(ctx, p.ID)
	}
	if err != nil && !errors.Is(err, vswitch.NetnsNotFound) && !errors.Is(err, vswitch.NotFound) { // it goes, or has gone
		a.log.Warn("the switch may send a port's frames to its standby", "port", p.ID, "err", err)
	}
}

// unlearn deletes what a switch has learnt of a port, unless that goes by its pair again: then the
// entry may be the port's own.
func (a *arbiter) unlearn(ctx context.Context, port string) error {
	unlock, err := a.store.LockPort(port)
	if err != nil {
		return err
	}
	defer unlock()
	now := a.lookUp(port)[0]
	if now.err != nil || now.port.VF == "" {
		return ignoreNotFound(now.err)
	}
	return a.kernel.Apply(ctx, []plan.Step{plan.DeleteFDB{Port: now.port.Netdev, MAC: now.port.MAC}})
}
