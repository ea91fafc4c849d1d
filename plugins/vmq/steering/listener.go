package steering

import (
	"context"
	"sync"

	"github.com/patchbay-net/patchbay/sdk"
)

// listeners are those who hear of events.
type listeners struct {
	mu  sync.Mutex
	all map[*listener]bool
}

// listener has what it was not told yet.
type listener struct {
	pending []sdk.Event
	ready   chan struct{} // holds one when something is pending
}

// mostPending is how many events wait for a listener that does not listen; older ones go.
const mostPending = 1024

func (l *listeners) send(e sdk.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for one := range l.all {
		if one.pending = append(one.pending, e); len(one.pending) > mostPending {
			one.pending = one.pending[1:]
		}
		select {
		case one.ready <- struct{}{}:
		default:
		}
	}
}

func (l *listeners) add() *listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[*listener]bool{}
	}
	one := &listener{ready: make(chan struct{}, 1)}
	l.all[one] = true
	return one
}

func (l *listeners) remove(one *listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, one)
}

func (l *listeners) pending(one *listener) []sdk.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := one.pending
	one.pending = nil
	return all
}

// WatchEvents tells of grants that were lost and NICs that were bound anew.
func (p *Provider) WatchEvents(ctx context.Context, tell func(sdk.Event) error) error {
	one := p.events.add()
	defer p.events.remove(one)
	for {
		select {
		case <-one.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, e := range p.events.pending(one) {
			if err := tell(e); err != nil {
				return err
			}
		}
	}
}
