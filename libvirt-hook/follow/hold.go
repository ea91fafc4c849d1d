package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// hold keeps the addresses of a domain for it while it is defined, whether it runs or not.
// One that somebody else has is that one's: starting the domain says so.
func (l *link) hold(ctx context.Context, d seen) error {
	text := d.Defined
	if text == "" {
		text = d.XML
	}
	if l.held[d.UUID] == text {
		return nil
	}
	is, err := domain.Parse([]byte(text))
	if err != nil {
		return nil //nolint:nilerr // starting it says so
	}
	var problems []error
	held := 0
	for _, n := range is.NICs {
		if n.MAC.IsZero() || !l.ours(n) {
			continue
		}
		_, err := l.follower.Verbs.HoldMAC(ctx, engine.HoldMACRequest{Domain: vswitch.DomainRef{ID: d.UUID, Name: d.Name}, MAC: n.MAC, NIC: n.Alias})
		if errors.Is(err, vswitch.MACDuplicate) {
			l.follower.Log.Warn("a domain is defined with an address that is not its own", "domain", d.Name, "err", err)
			continue
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("domain %s: %w", d.Name, err))
		}
		held++
	}
	if len(problems) == 0 {
		l.held[d.UUID] = text
		if held > 0 {
			l.follower.Log.Info("addresses are held for a domain", "domain", d.Name, "addresses", held)
		}
	}
	return errors.Join(problems...)
}

// ours reports whether an interface is meant for a switch of ours, by what its definition
// says.
func (l *link) ours(n domain.NIC) bool {
	return domain.OnSwitch(n.Bridge) || n.Wish != nil && n.Wish.Switch != "" || n.Network != "" && l.networks[n.Network]
}

// unhold lets go of the addresses of domains that are defined no more: of one that was undefined
// now, and when all is looked at of those whose end nobody has seen. What is held for a domain
// that has no UUID yet waits for being defined.
func (l *link) unhold(ctx context.Context, all bool) error {
	gone := map[string]bool{}
	for id := range l.held {
		gone[id] = !l.knows(id)
	}
	known, sure := l.follower.domains()
	if all && sure {
		leases, err := l.follower.Verbs.MACs(ctx)
		if err != nil {
			return err
		}
		for _, m := range leases {
			if id := m.Domain.ID; m.Held && id != "" && m.Port == "" {
				gone[id] = !known[id]
			}
		}
	}
	var problems []error
	for id, is := range gone {
		if !is {
			continue
		}
		released, err := l.follower.Verbs.ReleaseMAC(ctx, engine.ReleaseMACRequest{Domain: vswitch.DomainRef{ID: id}})
		if err == nil {
			delete(l.held, id)
		}
		if len(released) > 0 {
			l.follower.Log.Info("addresses of a domain are let go of", "domain", released[0].Domain.Name, "addresses", len(released))
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// sameButCounts compares two states of a domain but for what its ports have counted.
func sameButCounts(a, b []byte) bool {
	var x, y engine.DomainState
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	for _, s := range []engine.DomainState{x, y} {
		for i := range s.Ports {
			s.Ports[i].Counted = vswitch.VMCounts{}
		}
	}
	return reflect.DeepEqual(x, y)
}
