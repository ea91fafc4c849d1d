package fleet_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// lister is a nic that says of a VF which its owner has that the host has no netdev of it, as
// the kernel does, and whose next list of grants can be tampered with.
type lister struct {
	*nic
	mu     sync.Mutex
	tamper func([]sdk.Grant) []sdk.Grant
	listed chan struct{} // holds one when a list was made
}

// list has the lab's NIC be one.
func (l *lab) list() *lister {
	n := &lister{nic: l.nic, listed: make(chan struct{}, 1)}
	l.instead(n)
	return n
}

// next has a list be made, which is tampered with.
func (n *lister) next(tamper func([]sdk.Grant) []sdk.Grant) {
	n.mu.Lock()
	n.tamper = tamper
	n.mu.Unlock()
	n.become(nil)
}

func (n *lister) Grants(ctx context.Context) ([]sdk.Grant, error) {
	all, err := n.nic.Grants(ctx)
	n.mu.Lock()
	tamper := n.tamper
	n.tamper = nil
	n.mu.Unlock()
	if tamper != nil {
		all = tamper(all)
	}
	select {
	case n.listed <- struct{}{}:
	default:
	}
	return all, err
}

// counted returns when a list has been made since, and all is done that it led to: the first
// may be one that was under way.
func (n *lister) counted() {
	for len(n.listed) > 0 {
		<-n.listed
	}
	for range 3 {
		n.become(nil)
		<-n.listed
	}
}

// Ensure of what a port has and asks for again is noted as "=".
func (n *lister) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	has, err := n.Provider.Grants(ctx)
	at := slices.IndexFunc(has, func(g sdk.Grant) bool { return g.Ref == r.Ref && g.VF != nil })
	if err != nil || at < 0 {
		return n.nic.Ensure(ctx, r)
	}
	if _, err := n.kernel.Netdev(ctx, vfName(has[at].VF.Index)); err == nil {
		return n.nic.Ensure(ctx, r)
	}
	n.nic.mu.Lock()
	n.order = append(n.order, "="+r.Port)
	n.nic.mu.Unlock()
	return n.Provider.Ensure(ctx, r)
}

// wantKept fails if a port's VF was taken away: it may have been asked for again, as by a round
// that saw the port being attached.
func (l *lab) wantKept(p vswitch.Port) {
	l.t.Helper()
	if strings.Contains(l.nic.hands(), "-") {
		l.t.Errorf("VFs changed hands %s", l.nic.hands())
	}
	l.wantDrawn(true, "patchbay-vf: port="+p.ID)
	if got := l.has(p.ID, vswitch.SRIOV); got != "yes" {
		l.t.Errorf("SR-IOV is %s", got)
	}
}

// A list that was made before a VF was given, and is told after that, takes nothing from its
// container, and the plugin is asked for another list.
func TestOldListOfGrants(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
	n := l.list()
	made, tell := make(chan struct{}), make(chan struct{})
	n.next(func(all []sdk.Grant) []sdk.Grant {
		close(made)
		<-tell
		return all
	})
	<-made
	for len(n.listed) > 0 {
		<-n.listed // those before
	}
	a, err := l.Attach(context.Background(), request(0, vswitch.OffloadPrefer))
	if err != nil || a.Port.VF == "" {
		t.Fatalf("%+v, %v", a.Port, err)
	}
	close(tell)
	<-n.listed // the old one
	<-n.listed // another one, unasked: all is done that the old one led to
	l.wantKept(a.Port)
}

// A VF that its plugin leaves out of a list, as where it could not read something for a moment,
// or takes for another one, stays with its container, whether or not there is a standby beside it.
func TestVFNotInList(t *testing.T) {
	none := func([]sdk.Grant) []sdk.Grant { return nil }
	another := func(all []sdk.Grant) []sdk.Grant {
		for i := range all {
			if vf := all[i].VF; vf != nil {
				all[i].VF = &sdk.VF{Index: vf.Index + 1}
			}
		}
		return all
	}
	for name, c := range map[string]struct {
		r      engine.AttachRequest
		tamper func([]sdk.Grant) []sdk.Grant
	}{
		"alone":           {request(0, vswitch.OffloadPrefer), none},
		"with a standby":  {standby(0, 50), none},
		"there's another": {request(0, vswitch.OffloadPrefer), another},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
			n := l.list()
			a, err := l.Attach(context.Background(), c.r)
			if err != nil || a.Port.VF == "" {
				t.Fatalf("%+v, %v", a.Port, err)
			}
			n.next(c.tamper)
			l.until("it is asked for again", func() (bool, string) {
				return strings.Contains(l.nic.hands(), "=") && l.has(a.Port.ID, vswitch.SRIOV) == "yes", l.nic.hands()
			})
			l.wantKept(a.Port)
		})
	}
}

// Whoever is killed after a plugin has changed a VF and before that is written down leaves the
// VF with its container.
func TestKilledBeforeGrantIsWritten(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
	n := l.list()
	a, err := l.Attach(context.Background(), request(0, vswitch.OffloadPrefer))
	if err != nil || a.Port.VF == "" {
		t.Fatalf("%+v, %v", a.Port, err)
	}
	l.stop()
	r := l.nic.requests(a.Port.ID)[0]
	r.Generation++
	if _, err := l.nic.Provider.Ensure(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	err = l.store().Update(func(tx *store.Tx) error {
		all, err := tx.Grants()
		i := slices.IndexFunc(all, func(g store.Grant) bool { return g.Request.Feature == vswitch.SRIOV })
		all[i].Request.Generation = r.Generation
		return errors.Join(err, tx.PutGrant(all[i]))
	})
	if err != nil {
		t.Fatal(err)
	}
	l.instead(n)
	n.counted()
	l.wantKept(a.Port)
}

// A list that is nonsense, or does not come, is asked for again by itself: what ports have lost
// meanwhile is told by nobody.
func TestListIsAskedForAgain(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
	n := l.list()
	n.counted()
	for len(n.listed) > 0 {
		<-n.listed
	}
	n.next(func([]sdk.Grant) []sdk.Grant { return []sdk.Grant{{}} })
	limit := time.After(patience)
	for i := range 2 {
		select {
		case <-n.listed:
		case <-limit:
			t.Fatalf("%d lists were made", i)
		}
	}
}
