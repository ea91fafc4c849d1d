package engine_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// vmVerb is a verb on VMs with what was before it.
type vmVerb struct {
	name    string
	prepare func(*lab)
	do      func(*lab) error
	wants   func(*lab) // after it has been repeated
}

func vmVerbs() []vmVerb {
	ctx := context.Background()
	bind := func(o vswitch.Owner, tap string) func(*lab) error {
		return func(l *lab) error {
			_, err := l.BindPort(ctx, engine.BindPortRequest{Owner: o, Netdev: tap, Override: vswitch.Narrowing{Policy: vswitch.PolicyChange{StormLimit: ptr(9)}}})
			return err
		}
	}
	rich := reserveWeb("p1")
	ten := vswitch.AccessVLAN(10)
	rich.VLAN, rich.Policy = &ten, vswitch.PolicyChange{DHCPGuard: ptr(true), Bandwidth: vswitch.BandwidthChange{Out: vswitch.LimitChange{Max: ptr(vswitch.Bits(1e7))}}, Mirror: ptr(vswitch.MirrorDestination)}
	return []vmVerb{
		{
			"reserve", func(*lab) {},
			func(l *lab) error { _, err := l.ReservePort(ctx, rich); return err },
			func(l *lab) { l.wantBound(vm("p1"), "") },
		},
		{
			"bind", func(l *lab) { l.mustReserve(rich); l.kernel.AddNetdev(vnet("vnet0", 40)) },
			bind(vm("p1"), "vnet0"),
			func(l *lab) { l.wantBound(vm("p1"), "vnet0") },
		},
		{
			"bind two", func(l *lab) {
				l.mustReserve(rich)
				second := reserveWeb("p2")
				second.MAC = dbMAC
				l.mustReserve(second)
				l.kernel.AddNetdev(vnet("vnet0", 40))
				l.kernel.AddNetdev(dbVnet("vnet1", 41))
			},
			func(l *lab) error {
				_, err := l.BindPorts(ctx, []engine.BindPortRequest{{Owner: vm("p1"), Netdev: "vnet0"}, {Owner: vm("p2"), Netdev: "vnet1"}})
				return err
			},
			func(l *lab) { l.wantBound(vm("p1"), "vnet0"); l.wantBound(vm("p2"), "vnet1") },
		},
		{
			"bind to another tap", func(l *lab) { prodAndLab(l); l.kernel.AddNetdev(vnet("vnet1", 41)) },
			bind(vm("p1"), "vnet1"),
			func(l *lab) { l.wantBound(vm("p1"), "vnet1") },
		},
		{
			"bind a tap that was another's", func(l *lab) {
				prodAndLab(l)
				l.kernel.RemoveNetdev("vnet0")
				l.kernel.AddNetdev(dbVnet("vnet0", 41))
				l.mustReserve(reserveDB("p1"))
			},
			bind(db("p1"), "vnet0"),
			func(l *lab) { l.wantBound(db("p1"), "vnet0"); l.wantNoPort(vm("p1")) },
		},
		{
			"move to another network", func(l *lab) {
				prodAndLab(l)
				l.mustReserve(toLab("p2"))
				l.moveTap("vnet0", "pb-lab")
			},
			func(l *lab) error { return l.ReleasePort(ctx, vm("p1")) },
			func(l *lab) { l.wantBound(vm("p2"), "vnet0"); l.wantNoPort(vm("p1")) },
		},
		{
			"release", func(l *lab) { prodAndLab(l); l.kernel.RemoveNetdev("vnet0") },
			func(l *lab) error { return l.ReleasePort(ctx, vm("p1")) },
			func(l *lab) { l.wantNoPort(vm("p1")) },
		},
		{
			"release the domain", func(l *lab) { prodAndLab(l); l.mustReserve(toLab("p2")) },
			func(l *lab) error { return l.ReleaseDomain(ctx, webUUID) },
			func(l *lab) { l.wantNoPort(vm("p1")); l.wantNoPort(vm("p2")) },
		},
		{
			"activate", func(l *lab) { l.mustAdd(external()); l.arrive(nil) },
			func(l *lab) error { _, err := l.ActivateDomain(ctx, webUUID); return err },
			func(l *lab) {
				if p := l.wantBound(vm("there"), "vnet7"); p.VM.Stage != vswitch.VMActive {
					l.t.Errorf("the port is %+v", p)
				}
			},
		},
	}
}

// TestVMVerbsWithFaults: killed or failed at any step, the same again ends it, and what is
// released leaves nothing.
func TestVMVerbsWithFaults(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	unlocked := allCapabilities()
	unlocked.PortLocked, unlocked.VLANFiltering = false, true
	for _, verb := range vmVerbs() {
		for _, caps := range []kernel.Capabilities{allCapabilities(), unlocked} {
			for _, fault := range []string{"dies", "fails"} {
				t.Run(fmt.Sprintf("%s %s, ports locked %v", verb.name, fault, caps.PortLocked), func(t *testing.T) {
					struck := true
					for n := 1; struck && n < 60 && !t.Failed(); n++ {
						l := newLabWith(t, caps)
						pristine := l.kernel.String()
						if verb.name == "reserve" || verb.name == "bind" || verb.name == "bind two" {
							l.mustAdd(internal())
						}
						verb.prepare(l)
						before := l.kernel.Steps()
						if fault == "dies" {
							l.kernel.DieAt(n)
							struck = dies(func() error { return verb.do(l) })
						} else {
							l.kernel.FailAt(n, errBroken)
							_ = verb.do(l)
							struck = l.kernel.Steps()-before >= n
						}
						l.kernel.FailAt(0, nil)
						l.kernel.Revive()
						l.open()
						must(t, verb.do(l))
						verb.wants(l)
						if t.Failed() {
							t.Logf("struck at step %d", n)
						}
						for _, id := range []string{webUUID, dbUUID} {
							must(t, l.ReleaseDomain(ctx, id))
						}
						for _, tap := range []string{"vnet0", "vnet1", "vnet7"} {
							l.kernel.RemoveNetdev(tap)
						}
						_, err := l.GC(ctx, engine.GCRequest{})
						must(t, err)
						for _, name := range []string{"prod", "lab"} {
							_ = l.deleteSwitch(engine.DeleteSwitchRequest{Name: name})
						}
						l.wantClean(pristine)
						if t.Failed() {
							t.Logf("struck at step %d", n)
						}
					}
				})
			}
		}
	}
}

// TestVMVerbsUndone: what fails at a step and is not tried again leaves the port as it was, or
// what GC and the VM's end remove.
func TestVMVerbsUndone(t *testing.T) {
	for _, verb := range vmVerbs()[:3] {
		t.Run(verb.name, func(t *testing.T) {
			for n, struck := 1, true; struck && n < 60; n++ {
				l := newLab(t)
				if verb.name != "bind to another tap" {
					s := internal()
					s.HostPolicy = vswitch.Policy{DHCPGuard: true, ACL: aclRules(t, "deny in tcp to port 9 weight 1")} // so that there are tables
					l.mustAdd(s)
				}
				verb.prepare(l)
				before, steps := l.kernel.String(), l.kernel.Steps()
				l.kernel.FailAt(n, errBroken)
				err := verb.do(l)
				l.kernel.FailAt(0, nil)
				if struck = l.kernel.Steps()-steps >= n; !struck || err == nil {
					continue
				}
				if _, err := l.GC(context.Background(), engine.GCRequest{}); err != nil {
					t.Fatal(err)
				}
				if verb.name == "bind to another tap" {
					continue // the old tap is nobody's any more
				}
				flags := regexp.MustCompile(`(?m)^ +bridge (link|vlan) .*\n`) // those of the tap, which is shut whatever they say
				if diff := cmp.Diff(flags.ReplaceAllString(before, ""), flags.ReplaceAllString(l.kernel.String(), "")); diff != "" {
					t.Fatalf("failed at step %d it leaves:\n%s", n, diff)
				}
			}
		})
	}
}
