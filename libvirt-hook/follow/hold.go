package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// definition is what addresses are held for.
type definition struct {
	text string
	macs map[vswitch.MAC]bool
	// fresh says that nobody has looked yet for addresses that a former one had.
	fresh bool
}

// hold keeps the addresses of a domain for it while it is defined, whether it runs or not.
// One that somebody else has is that one's: starting the domain says so.
func (l *link) hold(ctx context.Context, d seen) error {
	text := d.Defined
	if text == "" {
		text = d.XML
	}
	if l.held[d.UUID].text == text {
		return nil
	}
	is, err := domain.Parse([]byte(text))
	if err != nil {
		return nil //nolint:nilerr // starting it says so
	}
	var problems []error
	held, macs := 0, map[vswitch.MAC]bool{}
	for _, n := range is.NICs {
		macs[n.MAC] = true
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
		l.held[d.UUID] = definition{text: text, macs: macs, fresh: true}
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

// unhold lets go of the addresses of domains that are defined no more, and of interfaces that
// have left a definition. libvirt has told of the former and does not know them any more, or
// they were missing in two looks at all; the latter by a definition that libvirt has shown. What
// is held for a domain that has no UUID yet waits for being defined.
func (l *link) unhold(ctx context.Context, all bool) error {
	var problems []error
	look := all
	for id, d := range l.held {
		if !l.knows(id) {
			err := l.letGo(ctx, engine.ReleaseMACRequest{Domain: vswitch.DomainRef{ID: id}})
			if err == nil {
				delete(l.held, id)
			}
			problems = append(problems, err)
		}
		look = look || d.fresh
	}
	if !look {
		return errors.Join(problems...)
	}
	leases, err := l.follower.Verbs.MACs(ctx)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	known, sure := l.follower.domains()
	absent := map[string]time.Time{}
	for _, m := range leases {
		id := m.Domain.ID
		d, followed := l.held[id]
		switch {
		case !m.Held || id == "":
		case followed && d.fresh && !d.macs[m.MAC]:
			problems = append(problems, l.letGo(ctx, engine.ReleaseMACRequest{MAC: m.MAC, Domain: m.Domain}))
		case all && sure && !known[id] && m.Port == "":
			since, again := l.absent[id]
			if !again {
				since = time.Now()
			} else if time.Since(since) >= settling {
				problems = append(problems, l.letGo(ctx, engine.ReleaseMACRequest{MAC: m.MAC, Domain: m.Domain}))
			}
			absent[id] = since
		}
	}
	if all {
		l.absent = absent
	}
	err = errors.Join(problems...)
	for id, d := range l.held {
		d.fresh = d.fresh && err != nil
		l.held[id] = d
	}
	return err
}

// letGo ends holds, and tells of it.
func (l *link) letGo(ctx context.Context, req engine.ReleaseMACRequest) error {
	released, err := l.follower.Verbs.ReleaseMAC(ctx, req)
	if len(released) > 0 {
		l.follower.Log.Info("addresses of a domain are let go of", "domain", released[0].Domain.Name, "addresses", len(released), "first", released[0].MAC.String())
	}
	return err
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
