package kernel

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A netdev is lent with all that the owner is to have on it, found there, and brought back
// bare; a name that is taken, and an address that is not the port's, are refused and change
// nothing. The Fake answers as Linux does.
func TestLentNetdev(t *testing.T) {
	mac := vswitch.MAC{0x0a, 0x50, 0x42, 0, 0, 9}
	run := func(t *testing.T, k Kernel, netns string, within func(func() error) error) {
		ctx := context.Background()
		want := plan.State{Lent: map[string]plan.Lent{"pbport": {Netdev: "vf0", Endpoint: plan.Endpoint{
			Netns: netns, Name: "eth0", MAC: mac, MTU: 1400, Up: true, Alias: "patchbay-vf: port=pbport",
			Addresses: []plan.Address{{Prefix: netip.MustParsePrefix("10.0.0.5/24"), NoDAD: true}},
			Routes:    []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.1")}},
		}}}}
		reach := func(desired, scope plan.State) []plan.Step {
			t.Helper()
			var steps []plan.Step
			err := within(func() error {
				seen, err := k.Observe(ctx, scope)
				if err != nil {
					return err
				}
				steps = plan.Diff(desired, seen)
				return k.Apply(ctx, steps)
			})
			if err != nil {
				t.Fatal(err)
			}
			return steps
		}
		home := func() (n Netdev, err error) {
			err = within(func() error { n, err = k.Netdev(ctx, "vf0"); return err })
			return n, err
		}
		lent := func(name string, mac vswitch.MAC) error {
			l := want.Lent["pbport"]
			l.Endpoint.Name, l.Endpoint.MAC = name, mac
			return within(func() error { return k.Apply(ctx, []plan.Step{plan.LendNetdev{Lent: l}}) })
		}
		if err := lent("lo", mac); !errors.Is(err, vswitch.EndpointExists) {
			t.Errorf("under a name that is taken: %v", err)
		}
		if err := lent("eth0", vswitch.MAC{2}); !errors.Is(err, vswitch.PluginFailed) {
			t.Errorf("with another address: %v", err)
		}
		if n, err := home(); err != nil || n.MAC != mac {
			t.Fatalf("it is not at home: %v, %v", n, err)
		}
		for range 2 {
			if steps := reach(plan.State{}, want); len(steps) > 1 {
				t.Errorf("to bring it back takes %v", steps)
			}
			if n, err := home(); err != nil || n.Up || n.Alias != "" {
				t.Errorf("at home it is %+v, %v", n, err)
			}
			reach(want, want)
			if steps := reach(want, want); len(steps) > 0 {
				t.Errorf("what is lent lacks %v", steps)
			}
			if _, err := home(); !errors.Is(err, vswitch.NotFound) {
				t.Errorf("lent, and at home: %v", err)
			}
		}
		var seen plan.State
		if err := within(func() (err error) { seen, err = k.Observe(ctx, want); return err }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Lent, seen.Lent, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
			t.Errorf("(-want +seen):\n%s", diff)
		}
		if err := lent("eth0", mac); err != nil { // once more is fine
			t.Error(err)
		}
		reach(plan.State{}, want)
		if _, err := home(); err != nil {
			t.Error(err)
		}
	}
	t.Run("Fake", func(t *testing.T) {
		f := NewFake(FakeConfig{Netdevs: []Netdev{{Name: "lo", Loopback: true}, {Name: "vf0", MAC: mac, MTU: 1500, Ethernet: true}}})
		f.AddNetns("/run/netns/c0")
		f.netns["/run/netns/c0"].add(Netdev{Name: "lo", Loopback: true})
		run(t, f, "/run/netns/c0", func(do func() error) error { return do() })
	})
	t.Run("Linux", func(t *testing.T) {
		host, owner := newNS(t), newNS(t)
		sh(t, host, "ip link add vf0 address "+mac.String()+" type veth peer name wire && ip link set wire up")
		run(t, NewLinux(), nsPath(owner), func(do func() error) error { return inNetns(host, do) })
	})
	t.Run("a namespace that has ended", func(t *testing.T) {
		gone := plan.Lent{Netdev: "vf0", Endpoint: plan.Endpoint{Netns: t.TempDir() + "/gone", Name: "eth0", Alias: "patchbay-vf: port=pbport"}}
		if _, err := os.Stat(gone.Endpoint.Netns); err == nil {
			t.Fatal("it is there")
		}
		if err := inNetns(newNS(t), func() error {
			return NewLinux().Apply(context.Background(), []plan.Step{plan.ReturnNetdev{Lent: gone}})
		}); err != nil {
			t.Error(err)
		}
	})
}
