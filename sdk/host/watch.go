package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// How many inventories and events of a plugin are passed on: one that sends more waits.
const (
	tellsPerSecond = 20
	burstTells     = 100
)

// WatchInventory is sdk.Provider's, with one difference: it goes on over failures of the
// plugin, and what is told after one is what the plugin says then. It returns when ctx ends,
// when the plugin is closed, with tell's error, or with an error of the plugin's that is no
// failure.
func (p *Plugin) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	return watch(ctx, p, p.o.Limits.Read, func(ctx context.Context, c sdk.Client, tell func(sdk.Inventory) error) error {
		return c.WatchInventory(ctx, tell)
	}, tell)
}

// WatchEvents is sdk.EventSource's, with the difference of WatchInventory: what happened
// while the plugin did not run nobody tells, so look at Grants after a restart.
func (p *Plugin) WatchEvents(ctx context.Context, tell func(sdk.Event) error) error {
	return watch(ctx, p, 0, func(ctx context.Context, c sdk.Client, tell func(sdk.Event) error) error {
		return c.WatchEvents(ctx, tell)
	}, tell)
}

// watch subscribes again and again. Where first is not 0 something has to be told within it.
func watch[M any](ctx context.Context, p *Plugin, first time.Duration, subscribe func(context.Context, sdk.Client, func(M) error) error, tell func(M) error) error {
	pace := budget{perSecond: tellsPerSecond, most: burstTells, left: burstTells}
	for {
		i, err := p.instance(ctx)
		if err == nil {
			var told error
			err = silenceLimited(ctx, first, func(ctx context.Context, heard func()) error {
				return subscribe(ctx, i.client, func(m M) error {
					heard()
					if told = hold(ctx, pace.owe(time.Now(), 1)); told == nil {
						told = tell(m)
					}
					return told
				})
			})
			if told != nil && ctx.Err() == nil {
				return told
			}
			if errors.Is(err, errSilent) {
				err = p.fault(err)
			}
			err = p.judge(ctx, i, err)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case p.life.Err() != nil || !errors.Is(err, vswitch.PluginFailed):
			return err
		}
		p.pauseStopped(ctx)
	}
}

// hold waits.
func hold(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errSilent = errors.New("it told nothing")

// silenceLimited ends what does not say that it heard something within a limit.
func silenceLimited(ctx context.Context, limit time.Duration, do func(ctx context.Context, heard func()) error) error {
	if limit == 0 {
		return do(ctx, func() {})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("%w within %s", errSilent, limit)) })
	defer timer.Stop()
	err := do(ctx, func() { timer.Stop() })
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}
