package offload

import (
	"context"
	"sync"

	"github.com/patchbay-net/patchbay/sdk"
)

// listeners are who hears of events. One that is slow hears of the last event of each grant.
type listeners struct {
	mu  sync.Mutex
	all map[*listener]struct{}
}

type listener struct {
	events map[sdk.Ref]sdk.Event
	order  []sdk.Ref
	wake   chan struct{}
}

// tell notes an event for all.
func (l *listeners) tell(e sdk.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for one := range l.all {
		if _, waits := one.events[e.Ref]; !waits {
			one.order = append(one.order, e.Ref)
		}
		one.events[e.Ref] = e
		select {
		case one.wake <- struct{}{}:
		default:
		}
	}
}

// listen hands events over until ctx ends.
func (l *listeners) listen(ctx context.Context, tell func(sdk.Event) error) error {
	one := &listener{events: map[sdk.Ref]sdk.Event{}, wake: make(chan struct{}, 1)}
	l.mu.Lock()
	if l.all == nil {
		l.all = map[*listener]struct{}{}
	}
	l.all[one] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, one)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-one.wake:
		}
		l.mu.Lock()
		var events []sdk.Event
		for _, ref := range one.order {
			events = append(events, one.events[ref])
		}
		clear(one.events)
		one.order = nil
		l.mu.Unlock()
		for _, e := range events {
			if err := tell(e); err != nil {
				return err
			}
		}
	}
}
