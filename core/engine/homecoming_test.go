package engine_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests are of what the host finds when it comes home.

func TestDeletionTellsWhatIsNotAsBefore(t *testing.T) {
	ctx := context.Background()
	elsewhere := func(l *lab) {
		_, err := l.SetSwitch(ctx, "lan", engine.SwitchChange{Uplink: ptr("nic1")})
		must(l.t, err)
	}
	for name, c := range map[string]struct {
		before func(*lab)
		words  []string // none: no warning
	}{
		"as before":      {func(*lab) {}, nil},
		"another uplink": {elsewhere, []string{"10.1.0.5/24", "on nic1 now", "on nic0 before"}},
		"there and back": {func(l *lab) {
			elsewhere(l)
			_, err := l.SetSwitch(ctx, "lan", engine.SwitchChange{Uplink: ptr("nic0")})
			must(l.t, err)
		}, nil},
		"NIC unplugged":   {func(l *lab) { l.kernel.RemoveNetdev("nic0") }, []string{"nic0", "10.1.0.5/24"}},
		"nothing is kept": {func(l *lab) { l.closeToHost(); l.forgetKept("lan") }, []string{"nothing is known", "nic0"}},
	} {
		for verb, run := range map[string]func(*lab) []string{
			"delete": func(l *lab) []string {
				report, err := l.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: "lan"})
				must(l.t, err)
				return report.Warnings
			},
			"set": func(l *lab) []string {
				s, err := l.SetSwitch(ctx, "lan", engine.SwitchChange{Type: ptr(vswitch.Private)})
				must(l.t, err)
				return s.Warnings
			},
			"prune": func(l *lab) []string {
				req := configured()
				req.Prune = true
				return l.mustApply(req).Warnings
			},
		} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				l := carrying(t)
				l.mustAdd(lan(true))
				c.before(l)
				got := run(l)
				if (len(got) > 0) != (c.words != nil) {
					t.Errorf("warnings %q", got)
				}
				for _, w := range c.words {
					if !strings.Contains(strings.Join(got, " "), w) {
						t.Errorf("%q is not in %q", w, got)
					}
				}
			})
		}
	}
}

func (l *lab) closeToHost() {
	l.t.Helper()
	_, err := l.SetSwitch(context.Background(), "lan", engine.SwitchChange{HostAccess: ptr(false), Yes: true})
	must(l.t, err)
}

// forgetKept loses what is noted of the host.
func (l *lab) forgetKept(name string) {
	l.t.Helper()
	must(l.t, l.store().UpdateConfig(func(tx *store.Tx) error {
		return errors.Join(tx.DropHosted(name), tx.DropKeptForHost(name))
	}))
}

// reboot leaves the configuration, and nothing in the kernel.
func (l *lab) reboot() {
	l.t.Helper()
	l.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: allCapabilities()})
	l.boot += "-again"
	l.open()
}

// What a closed switch keeps for the host outlives a reboot, but for what has a time to
// live; a NIC that the host has configured anew since is as it wants it.
func TestWhatIsKeptSurvivesAReboot(t *testing.T) {
	anew := plan.Addressing{Items: []plan.Item{kernel.AddressItem(netip.MustParsePrefix("10.7.0.5/24"))}}
	for name, c := range map[string]struct {
		booted plan.Addressing
		end    func(*lab) error
		on     string
		want   plan.Addressing
	}{
		"then deleted":            {plan.Addressing{}, func(l *lab) error { return l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}) }, "nic0", hostThings()},
		"then opened":             {plan.Addressing{}, func(l *lab) error { return l.setHostAccess(true) }, "pbh-lan", hostThings()},
		"configured, then opened": {anew, func(l *lab) error { return l.setHostAccess(true) }, "pbh-lan", anew},
	} {
		for restored, restore := range map[string]func(*lab){
			"restored": func(l *lab) {
				report, err := l.Restore(context.Background(), engine.RestoreRequest{})
				if err != nil || len(report.Failed) > 0 {
					l.t.Errorf("restore: %+v, %v", report, err)
				}
				if left := l.on("nic0"); len(left) > 0 {
					l.t.Errorf("the NIC of a closed switch has %v", left)
				}
			},
			"not restored": func(*lab) {},
		} {
			t.Run(name+"/"+restored, func(t *testing.T) {
				l := carrying(t)
				l.mustAdd(lan(true))
				l.closeToHost()
				for range 2 { // the second boot finds what the first one left alone
					l.reboot()
					l.kernel.SetAddressing("nic0", c.booted)
					restore(l)
				}
				must(t, c.end(l))
				var want []string
				for _, i := range c.want.Items {
					want = append(want, i.Words)
				}
				if diff := cmp.Diff(want, l.on(c.on)); diff != "" {
					t.Errorf("on %s (-want +got):\n%s", c.on, diff)
				}
				if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}); err != nil {
					wantKind(t, err, vswitch.NotFound)
				}
				must(t, l.store().View(func(tx *store.Tx) error {
					if body, kept, err := tx.KeptForHost("lan"); kept || err != nil {
						t.Errorf("still kept: %s, %v", body, err)
					}
					return nil
				}))
			})
		}
	}
}
