package fleet

import (
	"context"
	"errors"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Ensure has a plugin give a port a feature; it fails with a *vswitch.Denied.
func (f *Fleet) Ensure(ctx context.Context, plugin string, r vswitch.OffloadRequest) (vswitch.OffloadGrant, error) {
	p, err := f.plugin(plugin)
	if err != nil {
		return vswitch.OffloadGrant{}, denied(err)
	}
	g, err := p.Ensure(ctx, sdk.Request{
		Ref: sdk.Ref(r.OffloadRef), NIC: r.NIC, Generation: r.Generation, MAC: r.MAC, VLAN: r.VLAN, MTU: r.MTU,
		Owner: r.Owner, Netns: r.Netns, Weight: r.Weight, QueuePairs: r.QueuePairs, Moderation: r.Moderation,
		MaxOut: r.MaxOut, MACSpoofing: r.MACSpoofing, MaxSAs: r.MaxSAs,
	})
	if err != nil {
		return vswitch.OffloadGrant{}, denied(err)
	}
	return grant(g), nil
}

// Release has a plugin take a feature back. A plugin that there is not is NotFound.
func (f *Fleet) Release(ctx context.Context, plugin string, ref vswitch.OffloadRef, generation uint64) error {
	p, err := f.plugin(plugin)
	if err != nil {
		return err
	}
	return p.Release(ctx, sdk.Ref(ref), generation)
}

// Grants returns what ports have by a plugin.
func (f *Fleet) Grants(ctx context.Context, plugin string) ([]vswitch.OffloadGrant, error) {
	p, err := f.plugin(plugin)
	if err != nil {
		return nil, err
	}
	grants, err := p.Grants(ctx)
	all := make([]vswitch.OffloadGrant, 0, len(grants))
	for _, g := range grants {
		all = append(all, grant(g))
	}
	return all, err
}

// plugin is one that can be called: of one that may not be started nobody can tell what its
// hardware holds.
func (f *Fleet) plugin(name string) (Plugin, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[name]
	switch {
	case m == nil:
		return nil, &vswitch.Error{Kind: vswitch.NotFound, Object: "plugin " + name, Err: errors.New("it is not installed"), Hint: "run `patchbay plugin list`"}
	case m.plugin == nil:
		return nil, &vswitch.Error{Kind: vswitch.PluginFailed, Object: "plugin " + name, Err: errors.New(m.failed), Hint: "run `patchbay plugin list`"}
	}
	return m.plugin, nil
}

func grant(g sdk.Grant) vswitch.OffloadGrant {
	return vswitch.OffloadGrant{
		OffloadRef: vswitch.OffloadRef(g.Ref), NIC: g.NIC, Generation: g.Generation, VF: (*vswitch.OffloadVF)(g.VF),
		Queue: g.Queue, Amount: g.Amount, SAs: g.SAs, SAsHeld: g.SAsHeld, Reason: known(g.Reason), Detail: g.Detail,
	}
}

// denied is why a plugin did not give something, from the closed list and in its words.
func denied(err error) error {
	why := &vswitch.Denied{Reason: known(sdk.ReasonOf(err)), Detail: err.Error()}
	var e *vswitch.Error
	switch {
	case vswitch.KindOf(err) == vswitch.PluginFailed || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		why.Reason = vswitch.ProviderFailed
	case why.Reason == "":
		why.Reason = vswitch.Refused
	case errors.As(err, &e):
		why.Detail = e.Cause()
	}
	return why
}

// known is a reason, or Refused for one of a later version.
func known(r vswitch.Reason) vswitch.Reason {
	if r != "" && !slices.Contains(vswitch.Reasons(), r) {
		return vswitch.Refused
	}
	return r
}
