package pool

import (
	"context"

	"github.com/patchbay-net/patchbay/sdk"
)

// EventsFromNow is WatchEvents for who has to know from when on it listens.
func (p *Provider) EventsFromNow(ctx context.Context, tell func(sdk.Event) error) (listen func() error, err error) {
	next := p.news.wait()
	before, err := p.look()
	return func() error { return p.follow(ctx, next, before, tell) }, err
}
