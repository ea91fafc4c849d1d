package engine

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// leaving gathers the ports that are detached while others are: the kernel waits for
// every processor before it lets go of a netdev, and of many that go together once. Who
// comes while nobody else is at it does not wait.
type leaving struct {
	turn sync.Mutex // of the group that is carried out

	mu    sync.Mutex // of all below
	group *leavers   // that waits for its turn; nil if there is none
}

// leavers are ports that go together. Each one's lock is held by its own caller, so
// that nobody waits for a lock that another one cannot get.
type leavers struct {
	owners   []vswitch.Owner
	outgrown []string      // switches that can do without a segment then
	done     chan struct{} // closed when err stands
	err      error
}

// errUnfinished is of a group whose leader did not come to an end.
var errUnfinished = errors.New("the ports were not removed")

// detachTogether detaches an owner, with those that leave at the same time, and returns
// the switches that are outgrown then. What goes wrong for many is tried alone: each
// caller has a context, and an error, of its own.
func (e *Engine) detachTogether(ctx context.Context, owner vswitch.Owner) (outgrown []string, err error) {
	unlock, lockErr := e.store.LockPort(owner.PortID())
	if lockErr == nil {
		defer unlock()
		g := e.leave(ctx, owner)
		if g.err == nil || len(g.owners) == 1 {
			return g.outgrown, g.err
		}
	}
	r := leaver(&outgrown, owner)
	_, err = e.removeHeld(ctx, r.ids(), r, lockErr)
	return outgrown, err
}

func leaver(outgrown *[]string, owners ...vswitch.Owner) removal {
	return removal{goes: anyPort, blind: true, owners: owners, outgrown: func(name string) {
		if !slices.Contains(*outgrown, name) {
			*outgrown = append(*outgrown, name)
		}
	}}
}

// leave removes a port whose lock the caller holds, with others or alone, and returns
// the whole group. All of it are told of the outgrown switches: the first to look
// shrinks them.
func (e *Engine) leave(ctx context.Context, owner vswitch.Owner) *leavers {
	q := &e.leaving
	q.mu.Lock()
	if g := q.group; g != nil {
		g.owners = append(g.owners, owner)
		q.mu.Unlock()
		<-g.done
		return g
	}
	g := &leavers{owners: []vswitch.Owner{owner}, done: make(chan struct{}), err: errUnfinished}
	q.group = g
	q.mu.Unlock()

	q.turn.Lock()
	defer q.turn.Unlock()
	defer close(g.done)
	q.mu.Lock()
	q.group = nil // who comes from here on is of the next group
	q.mu.Unlock()
	r := leaver(&g.outgrown, g.owners...)
	r.blind = len(g.owners) == 1
	_, g.err = e.removeHeld(ctx, r.ids(), r, nil)
	return g
}
