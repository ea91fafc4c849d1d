package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

// inventor is a plugin that tells of grants that nobody asked for, whatever is taken back.
type inventor struct {
	*nic
	grants   int
	listed   chan struct{}
	released atomic.Int32
}

func (n *inventor) Grants(context.Context) ([]sdk.Grant, error) {
	var all []sdk.Grant
	for i := range n.grants {
		all = append(all, sdk.Grant{Ref: sdk.Ref{Port: fmt.Sprint("none", i), Feature: vswitch.VMQ}, NIC: "example-0", Generation: 1})
	}
	select {
	case n.listed <- struct{}{}:
	default:
	}
	return all, nil
}

func (n *inventor) Release(context.Context, sdk.Ref, uint64) error {
	n.released.Add(1)
	return nil
}

// A plugin that makes grants up keeps no other one's ports waiting, and fills no store.
func TestInventedGrants(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 2, "queues": 4})
	port := l.mustAttach(1, vswitch.OffloadChange{})
	l.await(port, vswitch.VMQ, "yes")
	p := &inventor{nic: newNIC(t, sdk.Config{"vfs": 1, "queues": 1, "nics": 1, "netdevs": []string{"other0"}}), grants: 2000, listed: make(chan struct{}, 1)}
	client, shut, err := host.InMemory(p, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shut)
	l.fleet.Add("inventor", client)
	<-p.listed
	if err := l.set(port, mode(vswitch.OffloadOff)); err != nil {
		t.Fatal(err)
	}
	l.until("the queue is taken back", func() (bool, string) {
		all, err := l.nic.Grants(context.Background())
		return err == nil && !slices.ContainsFunc(all, func(g sdk.Grant) bool { return g.Port == port }), "not"
	})
	if n := p.released.Load(); n == 0 || n > 1024 {
		t.Errorf("%d were taken back", n)
	}
	if err := l.store().View(func(tx *store.Tx) error {
		grants, err := tx.Grants()
		if len(grants) > 8 {
			t.Errorf("%d are written down", len(grants))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
