package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// definition is what addresses are held for.
type definition struct {
	text string // that was read; "" where it has to be read again
	macs map[vswitch.MAC]bool
	// held is what was asked for and is held, and others what somebody else has.
	held, others map[engine.HoldMACRequest]bool
	// fresh says that nobody has looked yet for addresses that a former one had.
	fresh bool
}

// hold keeps the addresses of a domain for it while it is defined, whether it runs or not.
// One that somebody else has is that one's, for as long as it is: starting the domain says so.
// A text may change without an interface that does.
func (l *link) hold(ctx context.Context, d seen) error {
	text := d.Defined
	if text == "" {
		text = d.XML
	}
	was, found := l.held[d.UUID]
	if was.text == text {
		return nil
	}
	is, err := domain.Parse([]byte(text))
	if err != nil {
		return nil //nolint:nilerr // starting it says so
	}
	now, err := l.holdEach(ctx, vswitch.DomainRef{ID: d.UUID, Name: d.Name}, is.NICs, text, was)
	if err != nil {
		return fmt.Errorf("domain %s: %w", d.Name, err)
	}
	now.fresh = was.fresh || !found || !maps.Equal(was.macs, now.macs)
	l.held[d.UUID] = now
	return nil
}

// holdEach holds the addresses of interfaces but for those that are held.
func (l *link) holdEach(ctx context.Context, d vswitch.DomainRef, nics []domain.NIC, text string, was definition) (now definition, err error) {
	more := 0
	now = definition{text: text, macs: map[vswitch.MAC]bool{}, held: map[engine.HoldMACRequest]bool{}, others: map[engine.HoldMACRequest]bool{}}
	for _, n := range nics {
		now.macs[n.MAC] = true
		req := engine.HoldMACRequest{Domain: d, MAC: n.MAC, NIC: n.Alias, Driver: l.uri}
		if was.held[req] {
			now.held[req] = true
			continue
		}
		if n.MAC.IsZero() || !l.ours(n) {
			continue
		}
		_, holdErr := l.follower.Verbs.HoldMAC(ctx, req)
		switch {
		case errors.Is(holdErr, vswitch.MACDuplicate):
			now.text, now.others[req] = "", true
			if !was.others[req] {
				l.follower.Log.Warn("a domain is defined with an address that is not its own", "domain", d.Name, "err", holdErr)
			}
		case holdErr != nil:
			err = errors.Join(err, holdErr)
		default:
			now.held[req] = true
			more++
		}
	}
	if more > 0 {
		l.follower.Log.Info("addresses are held for a domain", "domain", d.Name, "addresses", more)
	}
	return now, err
}

// ours reports whether an interface is meant for a switch of ours, by what its definition
// says.
func (l *link) ours(n domain.NIC) bool {
	return domain.OnSwitch(n.Bridge) || n.Wish != nil && n.Wish.Switch != "" || n.Network != "" && l.networks[n.Network]
}

// learn notes which networks that are active are a switch's. What else is on them now may be an
// interface of a definition that was read before.
func (l *link) learn(networks map[string]bool) {
	if maps.Equal(l.networks, networks) {
		return
	}
	l.networks = networks
	for id, d := range l.held {
		d.text = ""
		l.held[id] = d
	}
}

// unhold lets go of the addresses of domains that are defined no more, and of interfaces that
// have left a definition. libvirt has told of the former and does not know them any more, or
// they were missing in two looks at all; the latter by a definition that libvirt has shown. What
// is held for a domain that has no UUID yet waits for being defined, and what another driver has
// defined for that one: it may be there again.
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
	others, sure := l.follower.others(l)
	absent := map[string]time.Time{}
	for _, m := range leases {
		id := m.Domain.ID
		d, followed := l.held[id]
		switch {
		case !m.Held || id == "":
		case followed && d.fresh && !d.macs[m.MAC]:
			problems = append(problems, l.letGo(ctx, engine.ReleaseMACRequest{MAC: m.MAC, Domain: m.Domain}))
		case all && (m.Driver == l.uri || m.Driver == "" && sure) && !others[id] && !l.knows(id) && m.Port == "":
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
