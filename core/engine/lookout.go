package engine

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// lookout ends the turns of VMs' VFs, while an engine is resident. A VF that comes is there when
// the guest is heard by it: of a VF's frames the NIC hands the switch those that are for all, or
// for other ports, and what the guest says by its port goes out there and does not come in.
type lookout struct {
	*Engine
	log  *slog.Logger
	wake chan struct{}

	mu    sync.Mutex
	ports []vswitch.Port // to be looked out for
}

// turnPatience is for how long a turn lasts at most: after that the port is as if the guest had its
// VF. A guest takes a few seconds, emulated some minutes, and one without the driver for ever.
const turnPatience = 5 * time.Minute

func newLookout(e *Engine, log *slog.Logger) *lookout {
	return &lookout{Engine: e, log: log, wake: make(chan struct{}, 1)}
}

// watch has the turn of a port's VF looked out for, and no earlier one.
func (w *lookout) watch(p vswitch.Port) {
	w.mu.Lock()
	w.ports = append(w.ports, p)
	w.mu.Unlock()
	rouse(w.wake)
}

// recall takes up the turns that an earlier process has left.
func (w *lookout) recall() {
	err := w.store.View(func(tx *store.Tx) error {
		all, err := tx.Ports()
		for _, p := range all {
			if p.VM.VFTurn != "" {
				w.watch(p)
			}
		}
		return err
	})
	if err != nil {
		w.log.Warn("VMs' VFs that come and go cannot be looked up", "err", err)
	}
}

func (w *lookout) take() (ports []vswitch.Port) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ports, w.ports = w.ports, nil
	return ports
}

// run is the lookout's life.
func (w *lookout) run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	under := make(map[string]*attention) // by port
	for {
		maps.DeleteFunc(under, func(_ string, a *attention) bool { return a.over.Load() })
		for _, p := range w.take() {
			if former := under[p.ID]; former != nil {
				former.stop()
			}
			if turn := p.VM.VFTurn; turn != vswitch.VFLeaves && turn != vswitch.VFComes {
				continue
			}
			own, stop := context.WithCancel(ctx)
			a := &attention{stop: stop}
			under[p.ID] = a
			group.Go(func() {
				defer a.over.Store(true)
				defer stop()
				w.attend(own, p)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
	}
}

// attention is one port's turn that is looked out for.
type attention struct {
	stop context.CancelFunc
	over atomic.Bool
}

// attend ends one turn, unless another one does.
func (w *lookout) attend(ctx context.Context, p vswitch.Port) {
	for {
		heard := w.await(ctx, p)
		if ctx.Err() != nil {
			return
		}
		about := []any{"switch", p.Switch, "port", p.ID, "owner", p.Owner.String(), "heard", heard}
		ended, err := w.endTurn(ctx, p)
		if ended {
			w.log.Info("a VM goes by its VF", about...)
		}
		if err == nil {
			return
		}
		w.log.Warn("a switch cannot be told that a VM goes by its VF; trying again later", append(about, "err", err)...)
	}
}

// await returns when a turn is over, and whether because the guest was heard by its VF.
func (w *lookout) await(ctx context.Context, p vswitch.Port) (heard bool) {
	ctx, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	r, err := w.record(p.Switch)
	if err == nil && p.VM.VFTurn == vswitch.VFComes && w.kernel.Hear(ctx, r.Uplink, p.MAC) == nil {
		return true
	}
	<-ctx.Done() // what cannot be heard is waited for
	return false
}
