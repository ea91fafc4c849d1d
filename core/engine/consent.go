package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// consent refuses what a user has to say yes to, and returns what he should know of
// where he said it, or need not.
func (e *Engine) consent(ctx context.Context, old *store.SwitchRecord, r store.SwitchRecord, yes bool) ([]string, error) {
	if r.Uplink == "" {
		return nil, nil
	}
	taken, carries, err := e.livesOn(ctx, r.Uplink)
	if err != nil {
		return nil, err
	}
	if old != nil && old.Host == store.HostOnPort && !r.HostPort() {
		there, err := e.kernel.Addressing(ctx, vswitch.HostPortName(r.Name))
		if err != nil && !errors.Is(err, vswitch.NotFound) {
			return nil, err
		}
		taken = there.With(taken)
	}
	if len(taken.Items) == 0 {
		return nil, nil
	}
	warnings := passing(taken)
	if !r.HostPort() {
		loss := loses(taken)
		if taken.DefaultRoute() != nil && !yes {
			return nil, &vswitch.Error{
				Kind: vswitch.UplinkInUse, Err: fmt.Errorf("without host access the host would lose %s", loss),
				Hint: "leave host access on, or say --yes if the host is reached in another way",
			}
		}
		return append(warnings, fmt.Sprintf("the host has lost %s; it has it back when the switch is deleted or opened to the host", loss)), nil
	}
	managed := carries
	if len(managed) == 0 {
		managed = []string{r.Uplink}
	}
	for _, name := range managed {
		more, err := e.peace(ctx, name, vswitch.HostPortName(r.Name), yes || len(carries) == 0)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, more...)
	}
	return warnings, nil
}

// peace refuses to take what the host has on a NIC from a running program that manages it,
// unless somebody said yes, and returns what is to be told.
func (e *Engine) peace(ctx context.Context, name, to string, yes bool) (warnings []string, err error) {
	nic, err := e.kernel.Netdev(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, m := range managers(e.root, nic, to) {
		if m.active && !yes {
			return nil, &vswitch.Error{
				Kind: vswitch.UplinkInUse, Err: fmt.Errorf("%s manages NIC %s and would take back what moves to %s", m.name, nic.Name, to),
				Hint: m.todo + "; or say --yes and see to it yourself",
			}
		}
		warnings = append(warnings, fmt.Sprintf("%s manages NIC %s: %s", m.name, nic.Name, m.todo))
	}
	return warnings, nil
}

// homecoming tells what is not as it was before the switch when that gives its uplink up
// and the host goes back there.
func (e *Engine) homecoming(ctx context.Context, c change) ([]string, error) {
	if c.old == nil || c.old.Host == store.HostElsewhere || c.new != nil && c.new.Uplink != "" {
		return nil, nil
	}
	r := *c.old
	note, err := e.hosted(r.Name)
	if err != nil {
		return nil, err
	}
	has := plan.Addressing{Items: note.Items}
	if r.Host == store.HostOnPort {
		there, err := e.kernel.Addressing(ctx, vswitch.HostPortName(r.Name))
		if err != nil && !errors.Is(err, vswitch.NotFound) {
			return nil, err
		}
		has = there.With(has)
	}
	has.Items = slices.DeleteFunc(has.Items, func(i plan.Item) bool { return slices.Contains(r.Gateway, i.Prefix) })
	_, err = e.kernel.Netdev(ctx, r.Uplink)
	switch loss := loses(has); {
	case err != nil && !errors.Is(err, vswitch.NotFound):
		return nil, err
	case err != nil && loss != "":
		return []string{fmt.Sprintf("uplink %s is not on this host any more: the host has lost %s", r.Uplink, loss)}, nil
	case err == nil && note.Origin != "" && note.Origin != r.Uplink && loss != "":
		return []string{fmt.Sprintf("the host has %s on %s now, the last uplink of the switch; it was on %s before", loss, r.Uplink, note.Origin)}, nil
	case err == nil && r.Host == store.HostKept && loss == "":
		return []string{fmt.Sprintf("nothing is known of what the host had on %s: configure the NIC anew", r.Uplink)}, nil
	}
	return nil, nil
}

// loses names the addresses and default routes among what the host has.
func loses(a plan.Addressing) string {
	const shown = 6
	var words []string
	for _, i := range a.Items {
		switch {
		case i.Kind == plan.ItemAddress && !i.Prefix.Addr().IsLinkLocalUnicast():
			words = append(words, "address "+i.Prefix.String())
		case i.Kind == plan.ItemRoute && i.Prefix.Bits() == 0:
			words = append(words, "route "+i.On(i.Dev))
		}
	}
	if len(words) > shown {
		words = append(words[:shown], fmt.Sprintf("and %d more", len(words)-shown))
	}
	return strings.Join(words, ", ")
}

// passing tells what goes along but is not what it was.
func passing(a plan.Addressing) (warnings []string) {
	if slices.ContainsFunc(a.Items, func(i plan.Item) bool { return i.Kind == plan.ItemRoute && i.Advertised }) {
		warnings = append(warnings, "routes that a router advertised have moved with the time that they had left and a metric worse by one; the next advertisement makes new ones on the host port")
	}
	if slices.ContainsFunc(a.Items, func(i plan.Item) bool { return i.Kind == plan.ItemAddress && i.Temporary }) {
		warnings = append(warnings, "temporary (privacy) IPv6 addresses have moved as ordinary ones with the lifetime that they had left; the kernel makes new ones on the host port")
	}
	return warnings
}
