package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

var _ interface {
	sdk.Provider
	sdk.Prober
	sdk.EventSource
	sdk.PathSwitcher
	sdk.CounterReader
} = (*Plugin)(nil)

// mostFaults is how many answers in a row may be late or wrong before the process is taken
// for broken.
const mostFaults = 5

// call has the plugin answer within a limit.
func call[T any](ctx context.Context, p *Plugin, limit time.Duration, do func(context.Context, sdk.Client) (T, error)) (T, error) {
	var none T
	i, err := p.instance(ctx)
	if err != nil {
		return none, err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer, err := do(limited, i.client)
	if errors.Is(err, context.DeadlineExceeded) && ours(ctx, limited) {
		err = p.fault(fmt.Errorf("it did not answer within %s", limit))
		p.rest(i)
		p.later(func() { p.examine(i) })
	}
	return answer, p.judge(ctx, i, err)
}

// change is call of what takes long where a plugin hangs, while its caller holds what others wait
// for. After a late answer none of that is asked for a while: they go on meanwhile.
func change[T any](ctx context.Context, p *Plugin, do func(context.Context, sdk.Client) (T, error)) (T, error) {
	if wait := p.resting(); wait > 0 {
		var none T
		return none, p.fault(fmt.Errorf("it did not answer in time, and is asked again in %s", wait.Round(time.Second/10)))
	}
	return call(ctx, p, p.o.Limits.Change, do)
}

// rest lets a process alone, longer with each late answer in a row.
func (p *Plugin) rest(i *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == i {
		p.until = time.Now().Add(p.o.Limits.FirstWait << p.faults)
	}
}

// resting is how long the process is still let alone.
func (p *Plugin) resting() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.until)
}

// ours reports that it was our limit that ended, and not the caller's context. The plugin,
// which knows the deadline too, may say so before either context does.
func ours(caller, limited context.Context) bool {
	end, has := caller.Deadline()
	limit, _ := limited.Deadline()
	return caller.Err() == nil && (!has || limit.Before(end))
}

// judge draws the conclusions from how a call ended.
func (p *Plugin) judge(ctx context.Context, i *instance, err error) error {
	switch {
	case errors.Is(err, sdk.ErrGone):
		p.lose(i, err)
		return err
	case ctx.Err() != nil:
		return err // the caller went away, and knows nothing of the plugin
	case errors.Is(err, context.Canceled) && p.lost(i):
		return p.fault(sdk.ErrGone) // and its connection was closed before that was heard by it
	case !errors.Is(err, vswitch.PluginFailed):
		p.mu.Lock()
		p.faults = 0
		p.mu.Unlock()
		return err
	}
	p.mu.Lock()
	p.faults++
	enough := p.faults >= mostFaults
	p.mu.Unlock()
	if enough {
		p.lose(i, fmt.Errorf("%d answers in a row were late or wrong, the last one so: %w", mostFaults, err))
	}
	return err
}

// later does something that Close waits for, unless the plugin is closed.
func (p *Plugin) later(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() == nil {
		p.done.Go(do)
	}
}

// examine ends a process that does not even say that it is well.
func (p *Plugin) examine(i *instance) {
	if err := i.healthy(p.life); err != nil {
		p.lose(i, fmt.Errorf("it hangs: %w", err))
	}
}

func quiet(do func(context.Context, sdk.Client) error) func(context.Context, sdk.Client) (struct{}, error) {
	return func(ctx context.Context, c sdk.Client) (struct{}, error) { return struct{}{}, do(ctx, c) }
}

// Describe is sdk.Provider's.
func (p *Plugin) Describe(ctx context.Context) (sdk.Description, error) {
	return call(ctx, p, p.o.Limits.Read, func(ctx context.Context, c sdk.Client) (sdk.Description, error) { return c.Describe(ctx) })
}

// Configure is sdk.Provider's. A plugin that is started again gets its first configuration
// again: one that is to last belongs in Options.
func (p *Plugin) Configure(ctx context.Context, config sdk.Config) error {
	_, err := change(ctx, p, quiet(func(ctx context.Context, c sdk.Client) error { return c.Configure(ctx, config) }))
	return err
}

// Ensure is sdk.Provider's.
func (p *Plugin) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	return change(ctx, p, func(ctx context.Context, c sdk.Client) (sdk.Grant, error) { return c.Ensure(ctx, r) })
}

// Release is sdk.Provider's.
func (p *Plugin) Release(ctx context.Context, ref sdk.Ref, generation uint64) error {
	_, err := change(ctx, p, quiet(func(ctx context.Context, c sdk.Client) error { return c.Release(ctx, ref, generation) }))
	return err
}

// Grants is sdk.Provider's.
func (p *Plugin) Grants(ctx context.Context) ([]sdk.Grant, error) {
	return call(ctx, p, p.o.Limits.Read, func(ctx context.Context, c sdk.Client) ([]sdk.Grant, error) { return c.Grants(ctx) })
}

// Probe is sdk.Prober's.
func (p *Plugin) Probe(ctx context.Context) error {
	_, err := call(ctx, p, p.o.Limits.Read, quiet(func(ctx context.Context, c sdk.Client) error { return c.Probe(ctx) }))
	return err
}

// SwitchPath is sdk.PathSwitcher's.
func (p *Plugin) SwitchPath(ctx context.Context, ref sdk.Ref, to sdk.Path) error {
	_, err := change(ctx, p, quiet(func(ctx context.Context, c sdk.Client) error { return c.SwitchPath(ctx, ref, to) }))
	return err
}

// Counters is sdk.CounterReader's.
func (p *Plugin) Counters(ctx context.Context, ref sdk.Ref) (map[string]uint64, error) {
	return call(ctx, p, p.o.Limits.Read, func(ctx context.Context, c sdk.Client) (map[string]uint64, error) { return c.Counters(ctx, ref) })
}

// Healthy starts the plugin if need be and asks whether its process is well.
func (p *Plugin) Healthy(ctx context.Context) error {
	i, err := p.instance(ctx)
	if err != nil {
		return err
	}
	return i.healthy(ctx)
}
