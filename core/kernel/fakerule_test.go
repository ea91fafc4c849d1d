package kernel

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ruleHost is a host with netdevs that come, go and are renamed: a real one, or a Fake.
type ruleHost struct {
	add, remove func(netdev string)
	rename      func(from, to string)
	apply       func(...plan.Step) error
	addressing  func(netdev string) (plan.Addressing, error)
}

func ruleHosts() map[string]func(*testing.T) (ruleHost, plan.Item) {
	return map[string]func(*testing.T) (ruleHost, plan.Item){
		"fake": func(*testing.T) (ruleHost, plan.Item) {
			f := NewFake(FakeConfig{})
			return ruleHost{
				add:        func(n string) { f.AddNetdev(Netdev{Name: n, MTU: 1500, Ethernet: true, Up: true}) },
				remove:     f.RemoveNetdev,
				rename:     func(from, to string) { f.RenameNetdev("", from, to) },
				apply:      func(s ...plan.Step) error { return f.Apply(context.Background(), s) },
				addressing: func(n string) (plan.Addressing, error) { return f.Addressing(context.Background(), n) },
			}, plan.Item{Kind: plan.ItemRule, Key: "pref 1001 iif", Words: "pref 1001 iif % lookup 100"}
		},
		"linux": func(t *testing.T) (ruleHost, plan.Item) {
			l := newLinuxLab(t, 0)
			h := ruleHost{
				add:    func(n string) { sh(t, l.host, "ip link add "+n+" type veth peer name x-"+n+" && ip link set "+n+" up") },
				remove: func(n string) { sh(t, l.host, "ip link del "+n) },
				rename: func(from, to string) {
					sh(t, l.host, "ip link set "+from+" down; ip link set "+from+" name "+to+" && ip link set "+to+" up")
				},
				apply: func(s ...plan.Step) error { return l.apply(s...) },
				addressing: func(n string) (a plan.Addressing, err error) {
					err = l.do(func(k *Linux) error { a, err = k.Addressing(context.Background(), n); return err })
					return a, err
				},
			}
			sh(t, l.host, "ip link add sample type veth peer name x-sample; ip rule add iif sample lookup 100 pref 1001")
			a, err := h.addressing("sample")
			if err != nil {
				t.Fatal(err)
			}
			sh(t, l.host, "ip rule del pref 1001; ip link del sample")
			for _, i := range a.Items {
				if i.Kind == plan.ItemRule {
					return h, i
				}
			}
			t.Fatalf("no rule in %+v", a)
			return h, plan.Item{}
		},
	}
}

// A rule names a netdev and does not go with it: it waits for the next one of the name. A
// Fake is what Linux is.
func TestRulesOutliveTheirNetdev(t *testing.T) {
	for name, begin := range ruleHosts() {
		t.Run(name, func(t *testing.T) {
			h, rule := begin(t)
			on := func(netdev string) string {
				a, err := h.addressing(netdev)
				if errors.Is(err, vswitch.NotFound) {
					return "no netdev"
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range a.Items {
					if i.ID() == rule.ID() {
						return "rule"
					}
				}
				return "none"
			}
			apply := func(s plan.Step) func() {
				return func() {
					if err := h.apply(s); err != nil {
						t.Fatal(err)
					}
				}
			}
			var got []string
			for _, step := range []struct {
				what string
				do   func()
			}{
				{"netdev", func() { h.add("d0") }},
				{"rule added", apply(plan.CarryItem{Netdev: "d0", Item: rule})},
				{"netdev removed", func() { h.remove("d0") }},
				{"another one of the name", func() { h.add("d0") }},
				{"renamed", func() { h.rename("d0", "d1") }},
				{"renamed back", func() { h.rename("d1", "d0") }},
				{"removed again", func() { h.remove("d0") }},
				{"rule dropped", apply(plan.DropItem{Netdev: "d0", Item: rule})},
				{"and a third one", func() { h.add("d0") }},
			} {
				step.do()
				got = append(got, step.what+": d0 "+on("d0")+", d1 "+on("d1"))
			}
			want := []string{
				"netdev: d0 none, d1 no netdev",
				"rule added: d0 rule, d1 no netdev",
				"netdev removed: d0 no netdev, d1 no netdev",
				"another one of the name: d0 rule, d1 no netdev",
				"renamed: d0 no netdev, d1 none",
				"renamed back: d0 rule, d1 no netdev",
				"removed again: d0 no netdev, d1 no netdev",
				"rule dropped: d0 no netdev, d1 no netdev",
				"and a third one: d0 none, d1 no netdev",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
