package fleet_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// sas are the places for SAs that a NIC gave to ports, with what their owners have.
type sas struct {
	mu     *sync.Mutex
	grants map[sdk.Ref]sdk.Grant
	left   map[string]string // by NIC, how the kernel was when the last SAs were taken from it
	events chan sdk.Event
}

func newSAs() sas {
	return sas{new(sync.Mutex), map[sdk.Ref]sdk.Grant{}, map[string]string{}, make(chan sdk.Event, 10)}
}

func (s sas) ensure(r sdk.Request) sdk.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.grants[r.Ref]
	g.Ref, g.NIC, g.Generation, g.Amount = r.Ref, r.NIC, r.Generation, r.MaxSAs
	s.grants[r.Ref] = g
	return g
}

func (s sas) release(ref sdk.Ref, generation uint64, k *kernel.Fake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, granted := s.grants[ref]; granted && g.Generation <= generation {
		delete(s.grants, ref)
		s.left[g.NIC] = k.String()
	}
}

// become is that a port's owner has other SAs, of which the plugin tells.
func (s sas) become(port string, held, all int, why vswitch.Reason) {
	s.mu.Lock()
	ref := sdk.Ref{Port: port, Feature: vswitch.IPsec}
	g := s.grants[ref]
	g.SAsHeld, g.SAs, g.Reason = held, all, why
	s.grants[ref] = g
	s.mu.Unlock()
	s.events <- sdk.Event{Kind: sdk.GrantChanged, NIC: g.NIC, Ref: ref, Reason: why}
}

// granted are the places that were given.
func (s sas) granted() []sdk.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.grants))
}

// WatchEvents tells of SAs.
func (n *nic) WatchEvents(ctx context.Context, tell func(sdk.Event) error) error {
	for {
		select {
		case e := <-n.sas.events:
			if err := tell(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inUse is how many SAs the NIC holds for a port, and for all of the switch: "2 of 3; 2 on
// example-0, 512 allowed".
func (l *lab) inUse(port string) string {
	l.t.Helper()
	all, err := l.Offloads(context.Background(), "wan")
	if err != nil {
		l.t.Fatal(err)
	}
	text := ""
	for _, p := range all[0].Ports {
		for _, f := range p.Features {
			if p.Port == port && f.Feature == vswitch.IPsec {
				text = fmt.Sprintf("%d of %d", f.SAsHeld, f.SAs)
				if !f.Effective || f.Reason != "" {
					text += fmt.Sprintf(" (in effect: %t, %s)", f.Effective, f.Reason)
				}
			}
		}
	}
	for _, t := range all[0].Totals {
		if t.Feature == vswitch.IPsec {
			text += fmt.Sprintf("; %d on %s, %d allowed", t.Used, t.NIC, t.Allowed)
		}
	}
	return text
}

// What SAs there are, and why not all are on the NIC, the status says as soon as the plugin
// has told that it is otherwise, without anything being asked for anew.
func TestSAsInUse(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	l.nic.become(func(n *sdk.NIC) { n.Capabilities.IPsec = vswitch.Capability{Capacity: vswitch.Unlimited} })
	host, most := l.hostPort(), 3
	l.await(host, vswitch.IPsec, "yes")
	if err := l.set(host, vswitch.OffloadChange{IPsec: vswitch.IPsecChange{MaxSAs: &most}}); err != nil {
		t.Fatal(err)
	}
	until := func(want string) {
		t.Helper()
		l.until(want, func() (bool, string) {
			got := l.inUse(host)
			return got == want, got
		})
	}
	l.until("the plugin knows", func() (bool, string) {
		asked := l.nic.requests(host)
		return asked[len(asked)-1].MaxSAs == most, fmt.Sprint(asked)
	})
	until("0 of 0; 0 on example-0, 3 allowed")
	asked, decided := len(l.nic.requests(host)), l.decided.Load()
	for _, c := range []struct {
		held, all int
		why       vswitch.Reason
		want      string
	}{
		{2, 2, "", "2 of 2; 2 on example-0, 3 allowed"},
		{3, 5, vswitch.LimitReached, "3 of 5 (in effect: true, LIMIT_REACHED); 3 on example-0, 3 allowed"},
		{0, 5, vswitch.NeedsSoftwarePath, "0 of 5 (in effect: false, NEEDS_SOFTWARE_PATH); 0 on example-0, 3 allowed"},
		{0, 0, "", "0 of 0; 0 on example-0, 3 allowed"},
	} {
		l.nic.sas.become(host, c.held, c.all, c.why)
		until(c.want)
	}
	if n, d := len(l.nic.requests(host)), l.decided.Load(); n != asked || d != decided {
		t.Errorf("it was decided %d times more, and the plugin was asked %d times", d-decided, n-asked)
	}
	if c := l.mustAttach(0, vswitch.OffloadChange{}); l.has(c, vswitch.IPsec) != string(vswitch.NeedsSoftwarePath) || len(l.nic.requests(c)) > 0 && l.nic.requests(c)[0].Feature == vswitch.IPsec {
		t.Errorf("a container with a pair has %s, and the plugin was asked for %+v", l.has(c, vswitch.IPsec), l.nic.requests(c))
	}
}
