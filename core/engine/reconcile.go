package engine

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Keep puts right what others change of the host's switches and ports, until ctx
// ends. First it makes the switches that a boot, or a process that was killed, left
// unmade; then it calls ready, and from then on it sleeps until the kernel tells of
// a change. What it does is told in the log and by Status.
//
// It never removes a port, and makes one anew only while its owner's namespace is
// alive. What an owner does to its own end of a port is the owner's affair.
func (e *Engine) Keep(ctx context.Context, log *slog.Logger, ready func()) error {
	r := &reconciler{
		Engine: e, log: log, ledger: newLedger(e.now), wake: make(chan struct{}, 1),
		settled: make(map[string]uint64), met: make(map[string]acquaintance), macs: make(map[vswitch.MAC]string),
		strays: make(map[string]string), strangers: make(map[string]bool),
	}
	r.herald = newHerald(e, log, r.ledger)
	r.ledger.herald, r.ledger.lookout = r.herald, newLookout(e, log)
	e.resident.Store(r.ledger)
	ctx, cancel := context.WithCancel(ctx)
	var heralding sync.WaitGroup
	defer heralding.Wait()
	defer cancel()
	watching := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- e.kernel.Watch(ctx, func() { close(watching) }, r.note) }()
	select {
	case <-watching:
	case err := <-ended:
		return fault("watch", "", err)
	}
	r.herald.lookAll(ctx)
	heralding.Go(func() { r.herald.run(ctx) })
	r.ledger.lookout.recall()
	heralding.Go(func() { r.ledger.lookout.run(ctx) })
	r.everything(ctx)
	ready()
	if e.hardware != nil {
		a := newArbiter(e, log)
		e.arbiter.Store(a)
		heralding.Go(func() { a.run(ctx) })
	}
	return fault("watch", "", r.loop(ctx, ended))
}

// reconciler is Keep at work.
type reconciler struct {
	*Engine
	log    *slog.Logger
	ledger *ledger
	wake   chan struct{}
	herald *herald

	mu      sync.Mutex // of all below, which note changes
	pending pending
	// strangers are netdevs in our bridges that are nobody's port, as far as is known.
	strangers map[string]bool
	settled   map[string]uint64      // a netdev's print when it was found as it should be
	macs      map[vswitch.MAC]string // the netdev that an address belongs to
	foreign   map[string]string      // names without a mark of ours that matter: uplinks (""), adopted netdevs (their port)

	met    map[string]acquaintance // by port
	strays map[string]string       // what has been told of uplinks, by switch
}

// pending is what has to be looked at.
type pending struct {
	all, rules bool
	netdevs    map[string]uint64 // with their last print
}

func (p *pending) add(netdev string, e kernel.Event) {
	if p.netdevs == nil {
		p.netdevs = make(map[string]uint64)
	}
	if e.Print != 0 || p.netdevs[netdev] == 0 || e.Change == kernel.NetdevGone {
		p.netdevs[netdev] = e.Print
	}
}

// settling is how long changes are gathered before they are looked at: a verb makes
// several, and most are a verb's own. The timer runs only while there are any.
const settling = 100 * time.Millisecond

// note takes an event. It is called by the kernel's watch and must be quick.
func (r *reconciler) note(e kernel.Event) {
	r.herald.note(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Stranger {
		r.strangers[e.Netdev] = true
		rouse(r.wake)
	}
	switch e.Change {
	case kernel.Lost:
		r.pending.all = true
	case kernel.RulesChanged:
		r.pending.rules = true
	default:
		_, matters := r.foreign[e.Netdev]
		if owner := r.macs[e.MAC]; owner != "" && owner != e.Netdev {
			r.pending.add(owner, kernel.Event{}) // its entry has moved to another port
			matters = true
		}
		if e.Change == kernel.ForwardingChanged && vswitch.IsTrunk(e.Netdev) {
			break // a guest's entry at the root: it comes and goes with the guest
		}
		if !e.Ours && !matters && !strings.HasPrefix(e.Netdev, "pb") {
			return
		}
		if e.Change == kernel.NetdevGone {
			delete(r.settled, e.Netdev)
		}
		if e.Print != 0 && r.settled[e.Netdev] == e.Print {
			return // it was looked at when it was like that
		}
		r.pending.add(e.Netdev, e)
	}
	rouse(r.wake)
}

// rouse wakes who sleeps on a channel with room for one.
func rouse(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake
	}
}

func (r *reconciler) take() pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pending
	r.pending = pending{}
	return p
}

// settle notes that netdevs are as they should be: their prints need no look.
func (r *reconciler) settle(p pending, names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		if print := p.netdevs[name]; print != 0 {
			r.settled[name] = print
		}
	}
}

// loop looks at what changed, and again at what could not be repaired.
func (r *reconciler) loop(ctx context.Context, ended <-chan error) error {
	for {
		retry, stop := r.retry()
		select {
		case <-ctx.Done():
		case err := <-ended:
			stop()
			return err
		case <-retry:
		case <-r.wake:
			gather(ctx)
		}
		stop()
		if ctx.Err() != nil {
			return <-ended
		}
		r.round(ctx)
	}
}

// retry is the timer of drift that could not be repaired. Without any there is none.
func (r *reconciler) retry() (<-chan time.Time, func() bool) {
	at, any := r.ledger.next()
	if !any {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(at.Sub(r.now()))
	return timer.C, timer.Stop
}

// gather lets what belongs together come.
func gather(ctx context.Context) {
	timer := time.NewTimer(settling)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// round looks at what is pending or due.
func (r *reconciler) round(ctx context.Context) {
	p := r.take()
	if p.all {
		r.log.Warn("events were lost: everything is looked at")
	}
	if p.all || slices.Contains(r.ledger.due(), storeObject) {
		r.everything(ctx)
		return
	}
	t, err := r.targets(ctx, p)
	if err != nil {
		r.unreadable(err)
		return
	}
	for _, name := range t.teams {
		r.teamChanged(ctx, name, p)
	}
	for _, s := range t.switches {
		r.switchChanged(ctx, s, p)
	}
	r.portsChanged(ctx, t.ports, p)
	r.admitStrangers(ctx)
}

// storeObject is what trouble with the store is filed under: then everything is
// looked at again.
const storeObject = "store"

func (r *reconciler) unreadable(err error) {
	if r.ledger.failed(storeObject, err) {
		r.log.Error("nothing can be repaired", "err", err)
	}
}

// everything looks at all teams, switches and ports.
func (r *reconciler) everything(ctx context.Context) {
	var records []store.SwitchRecord
	var teams []store.TeamRecord
	var ports []vswitch.Port
	err := r.store.View(func(tx *store.Tx) (err error) {
		if records, err = tx.Switches(); err != nil {
			return err
		}
		if teams, err = tx.Teams(); err != nil {
			return err
		}
		ports, err = tx.Ports()
		return err
	})
	if err != nil {
		r.unreadable(err)
		return
	}
	r.ledger.fine(storeObject)
	r.remember(records, teams, ports)
	for _, t := range teams {
		r.teamChanged(ctx, t.Name, pending{})
	}
	for _, s := range records {
		r.switchChanged(ctx, s.Name, pending{})
	}
	r.portsChanged(ctx, idsOf(ports), pending{})
	r.findStrangers(ctx)
}

// mayTry reports whether an object may be repaired now, and logs if somebody
// changes it again and again.
func (r *reconciler) mayTry(object string, about []any, what []string) bool {
	may, contested := r.ledger.mayTry(object, what)
	if contested {
		r.log.Warn("somebody changes it again and again: it is repaired more rarely",
			append(about, "what", strings.Join(what, "; "))...)
	}
	return may
}

// mend tells of an object that it was put right, or that it was not.
func (r *reconciler) mend(object string, about []any, what []string, err error) {
	if err != nil {
		if r.ledger.failed(object, err) {
			r.log.Warn("cannot repair", append(about, "kind", string(vswitch.KindOf(err)), "err", err)...)
		}
		return
	}
	r.ledger.repaired(object, what)
	r.log.Info("repaired", append(about, "what", strings.Join(what, "; "))...)
}
