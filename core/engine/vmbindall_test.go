package engine_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// starting is a VM about to start: each of its four NICs has a reservation, the second one in
// VLAN 10 and with a policy, the fourth on another switch, and a tap.
func starting(l *lab) (all []engine.BindPortRequest) {
	l.t.Helper()
	l.mustAdd(internal())
	l.mustAdd(vswitch.Switch{Name: "lab", Type: vswitch.Private})
	for i := range 4 {
		req := reserveWeb(fmt.Sprintf("p%d", i))
		req.MAC[5] += byte(16 * i)
		tap := vnet(fmt.Sprintf("vnet%d", i), 40+i)
		tap.MAC = req.MAC.TapMAC()
		switch i {
		case 1:
			ten := vswitch.AccessVLAN(10)
			req.VLAN = &ten
			req.Policy = vswitch.PolicyChange{
				DHCPGuard: ptr(true), Mirror: ptr(vswitch.MirrorSource), ACL: ptr(aclRules(l.t, "deny out to 10.0.0.0/8")),
				Bandwidth: vswitch.BandwidthChange{Out: vswitch.LimitChange{Max: ptr(vswitch.Bits(1e7))}},
			}
		case 3:
			req.Switch, tap.Master = "lab", "pb-lab"
		}
		l.mustReserve(req)
		l.kernel.AddNetdev(tap)
		all = append(all, engine.BindPortRequest{Owner: req.Owner, Netdev: tap.Name, Alias: fmt.Sprintf("ua-%d", i)})
	}
	all[2].Override = vswitch.Narrowing{Policy: vswitch.PolicyChange{StormLimit: ptr(9)}}
	return all
}

// TestBindPorts: bound at once, ports are what they are one by one, on every kind of switch.
func TestBindPorts(t *testing.T) {
	filtering := allCapabilities()
	filtering.VLANFiltering = true
	for name, sizes := range map[string]vswitch.SegmentSizes{"of one segment": {}, "with two on a trunk": {Root: 1, Spoofing: 1, Further: 2}} {
		t.Run(name, func(t *testing.T) {
			one, all := newLabWith(t, filtering), newLabWith(t, filtering)
			for _, l := range []*lab{one, all} {
				l.sizes = sizes
				l.open()
			}
			for _, req := range starting(one) {
				one.mustBind(req)
			}
			reqs := starting(all)
			for range 2 { // once more repairs
				ports, err := all.BindPorts(context.Background(), reqs)
				must(t, err)
				if len(ports) != len(reqs) || ports[2].Policy.StormLimit != 9 || ports[1].VM.Alias != "ua-1" {
					t.Errorf("bound: %+v", ports)
				}
			}
			own := regexp.MustCompile(`0[ae](:[0-9a-f]{2}){5}`) // addresses of switches are random
			drawn := func(l *lab) string { return own.ReplaceAllString(l.kernel.String(), "own") }
			if diff := cmp.Diff(drawn(one), drawn(all)); diff != "" {
				t.Errorf("one by one, and at once:\n%s", diff)
			}
			for i, req := range reqs {
				all.wantBound(req.Owner, fmt.Sprintf("vnet%d", i))
			}
			must(t, all.ReleaseDomain(context.Background(), webUUID))
		})
	}
}

// TestBindPortsAtOnce: four ports take the kernel no more looks and changes than it has to be:
// that is what the verb is for.
func TestBindPortsAtOnce(t *testing.T) {
	one, all := newLab(t), newLab(t)
	reqs := starting(one)
	before := one.kernel.Steps()
	for _, req := range reqs {
		one.mustBind(req)
	}
	single := one.kernel.Steps() - before
	reqs = starting(all)
	before = all.kernel.Steps()
	_, err := all.BindPorts(context.Background(), reqs)
	must(t, err)
	if together := all.kernel.Steps() - before; together >= single {
		t.Errorf("%d steps at once, %d one by one", together, single)
	}
}

// TestBindPortsAllOrNone: what one of them cannot have, none gets, and each may be bound alone.
func TestBindPortsAllOrNone(t *testing.T) {
	ctx := context.Background()
	for name, spoil := range map[string]func(*lab, []engine.BindPortRequest) []engine.BindPortRequest{
		"no tap": func(l *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			l.kernel.RemoveNetdev("vnet3")
			return all
		},
		"no reservation": func(_ *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			all[3].Owner.Endpoint = "p9"
			return all
		},
		"it widens": func(_ *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			all[1].Override = vswitch.Narrowing{Policy: vswitch.PolicyChange{DHCPGuard: ptr(false)}}
			return all
		},
		"one tap for two": func(_ *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			all[1].Netdev = "vnet0"
			return all
		},
		"two taps for one": func(_ *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			all[1].Owner = all[0].Owner
			return all
		},
		"an end of a pair": func(_ *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			all[1].Pair = true
			return all
		},
		"nobody's switch": func(l *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			l.kernel.RemoveNetdev("pb-lab")
			return all
		},
		"it has another tap": func(l *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			l.kernel.AddNetdev(vnet("vnet7", 47))
			l.mustBind(engine.BindPortRequest{Owner: all[0].Owner, Netdev: "vnet7"})
			return all
		},
		"another has its tap": func(l *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			l.mustReserve(reserveDB("p1"))
			l.mustBind(engine.BindPortRequest{Owner: db("p1"), Netdev: "vnet0"})
			return all
		},
		"the kernel fails": func(l *lab, all []engine.BindPortRequest) []engine.BindPortRequest {
			l.kernel.FailAt(5, errBroken)
			return all
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			reqs := spoil(l, starting(l))
			before := l.kernel.String()
			if ports, err := l.BindPorts(ctx, reqs); err == nil {
				t.Errorf("bound: %+v", ports)
			}
			l.kernel.FailAt(0, nil)
			if diff := cmp.Diff(before, l.kernel.String()); diff != "" && name != "the kernel fails" { // taps are shut then
				t.Errorf("what failed changed:\n%s", diff)
			}
			for _, i := range []int{2, 3} {
				if p, found, err := l.Attached(ctx, vm(fmt.Sprintf("p%d", i))); err != nil || !found || p.Plugged() {
					t.Errorf("%+v, %v, %v", p, found, err)
				}
			}
			l.mustBind(engine.BindPortRequest{Owner: vm("p2"), Netdev: "vnet2"})
			l.wantBound(vm("p2"), "vnet2")
		})
	}
}

// TestBindPortsOfNobody: nothing asked for is nothing done.
func TestBindPortsOfNobody(t *testing.T) {
	l := newLabWith(t, kernel.Capabilities{})
	if ports, err := l.BindPorts(context.Background(), nil); err != nil || len(ports) > 0 {
		t.Errorf("%v, %v", ports, err)
	}
	if _, err := l.BindPorts(context.Background(), make([]engine.BindPortRequest, 2)); !errors.Is(err, vswitch.Invalid) {
		t.Errorf("of nobody: %v", err)
	}
}
