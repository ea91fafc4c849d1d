package engine_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func guarded(i int, c vswitch.PolicyChange) engine.AttachRequest {
	return engine.AttachRequest{
		Owner: owner(i), Switch: "lan", Policy: c,
		Addresses: []vswitch.Address{{Prefix: netip.MustParsePrefix("10.5.0.9/24")}},
	}
}

func policed() vswitch.Switch { return vswitch.Switch{Name: "lan", Type: vswitch.Internal} }

func allGuards() vswitch.PolicyChange {
	return vswitch.PolicyChange{DHCPGuard: ptr(true), RouterGuard: ptr(true), AddressGuard: ptr(true), StormLimit: ptr(100)}
}

func (l *lab) wantDrawn(wanted bool, lines ...string) {
	l.t.Helper()
	for _, line := range lines {
		if strings.Contains(l.kernel.String(), line) != wanted {
			l.t.Errorf("%q is there: %v, in\n%s", line, !wanted, l.kernel)
		}
	}
}

func TestGuardsFollowThePort(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	l.mustAdd(policed())
	a := l.mustAttach(guarded(0, allGuards()))
	lines := []string{
		"dhcp { " + a.Port.Netdev + " }", "router { " + a.Port.Netdev + " }", "storm { " + a.Port.Netdev + " limit rate over 100/second }",
		"bound { " + a.Port.Netdev + " to " + a.Port.MAC.String() + " 0.0.0.0 10.5.0.9 fe80::",
	}
	l.wantDrawn(true, lines...)
	l.mustAttach(guarded(0, allGuards())) // once more
	l.wantHealthy()

	_, err := l.SetPort(context.Background(), a.Port.ID, engine.PortChange{Policy: vswitch.PolicyChange{StormLimit: ptr(7), RouterGuard: ptr(false)}})
	must(t, err)
	l.wantDrawn(true, lines[0], lines[3], "storm { "+a.Port.Netdev+" limit rate over 7/second }")
	l.wantDrawn(false, lines[1], lines[2])
	l.wantHealthy()
	_, err = l.Attach(context.Background(), guarded(0, allGuards()))
	wantKind(t, err, vswitch.Conflict)

	l.flushRules()
	l.open()
	if p, err := l.Port(context.Background(), a.Port.ID); err != nil || len(p.Drift) == 0 {
		t.Errorf("flushed rules are no drift: %+v, %v", p, err)
	}
	_, err = l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: policed()})
	must(t, err)
	l.wantDrawn(true, lines[0], lines[3])
	l.wantHealthy()
	l.mustDetach(0)
	l.wantDrawn(false, a.Port.Netdev)
	l.wantHealthy()
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantClean(pristine)
}

// A guarded port that comes after somebody has flushed the rules brings those of the
// others back.
func TestGuardsOfAllComeBack(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	first := l.mustAttach(guarded(0, vswitch.PolicyChange{DHCPGuard: ptr(true)}))
	l.flushRules()
	req := guarded(1, vswitch.PolicyChange{RouterGuard: ptr(true)})
	req.Addresses = nil
	second := l.mustAttach(req)
	l.wantDrawn(true, "dhcp { "+first.Port.Netdev+" }", "router { "+second.Port.Netdev+" }")
}

func TestGuardsOfASwitchWithAnother(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	a := l.mustAttach(guarded(0, vswitch.PolicyChange{DHCPGuard: ptr(true)}))
	l.mustAdd(vswitch.Switch{Name: "other", Type: vswitch.Internal})
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "other"}))
	l.wantDrawn(true, "dhcp { "+a.Port.Netdev+" }")
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan", Force: true}))
	l.wantDrawn(false, "patchbay_guards")
}

func TestPolicyRefusals(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	for name, c := range map[string]struct {
		change vswitch.PolicyChange
		kind   vswitch.Kind
	}{
		"less than no frame":                {vswitch.PolicyChange{StormLimit: ptr(-1)}, vswitch.Range},
		"more than any link":                {vswitch.PolicyChange{StormLimit: ptr(vswitch.MaxStormLimit + 1)}, vswitch.Range},
		"address guard without any address": {vswitch.PolicyChange{AddressGuard: ptr(true)}, vswitch.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			req := guarded(1, c.change)
			req.Addresses = nil
			before := l.kernel.String()
			_, err := l.Attach(context.Background(), req)
			wantKind(t, err, c.kind)
			if got := l.kernel.String(); got != before {
				t.Errorf("the refusal left\n%s", got)
			}
			l.mustAttach(engine.AttachRequest{Owner: owner(1), Switch: "lan"})
			_, err = l.SetPort(context.Background(), owner(1).PortID(), engine.PortChange{Policy: c.change})
			wantKind(t, err, c.kind)
			l.mustDetach(1)
		})
	}
}

func TestGuardsNeedTheKernel(t *testing.T) {
	caps := allCapabilities()
	caps.GuardRules = false
	l := newLabWith(t, caps)
	l.mustAdd(policed())
	_, err := l.Attach(context.Background(), guarded(0, allGuards()))
	wantKind(t, err, vswitch.CapabilityMissing)
	l.mustAttach(guarded(0, vswitch.PolicyChange{}))
	_, err = l.SetPort(context.Background(), owner(0).PortID(), engine.PortChange{Policy: allGuards()})
	wantKind(t, err, vswitch.CapabilityMissing)
}

// What new ports of a switch are to get is refused with the switch, and no reason against one
// that has it from before another kernel was booted.
func TestPortDefaultsNeedTheKernel(t *testing.T) {
	ctx := context.Background()
	for name, p := range map[string]vswitch.Policy{
		"guard":  {DHCPGuard: true},
		"list":   {ACL: aclRules(t, "deny out any")},
		"limit":  {Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e9}}},
		"mirror": {Mirror: vswitch.MirrorSource},
	} {
		t.Run(name, func(t *testing.T) {
			caps := allCapabilities()
			caps.GuardRules, caps.ACLRules, caps.Limits, caps.Mirroring = false, false, false, false
			l := newLabWith(t, caps)
			s := policed()
			s.PortDefaults = p
			_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: s})
			wantKind(t, err, vswitch.CapabilityMissing)
			_, err = l.Apply(ctx, configured(s))
			wantKind(t, err, vswitch.CapabilityMissing)
			l.mustAdd(policed())
			_, err = l.SetSwitch(ctx, "lan", engine.SwitchChange{PortDefaults: &vswitch.PolicyChange{
				DHCPGuard: &p.DHCPGuard, ACL: &p.ACL, Mirror: &p.Mirror, Bandwidth: vswitch.BandwidthChange{In: vswitch.LimitChange{Max: &p.Bandwidth.In.Max}},
			}})
			wantKind(t, err, vswitch.CapabilityMissing)

			l.kernel.SetCapabilities(allCapabilities()) // by modules
			l.mustApply(configured(s))
			l.kernel.SetCapabilities(caps)
			must(t, l.store().Update(func(tx *store.Tx) error { return tx.PutFact("capabilities", caps) }))
			must(t, restored(l))
			_, err = l.SetSwitch(ctx, "lan", engine.SwitchChange{MTU: ptr(1400)})
			must(t, err)
		})
	}
}

// flushRules is what a stranger's `nft flush ruleset` does.
func (l *lab) flushRules() {
	l.t.Helper()
	must(l.t, l.kernel.Apply(context.Background(), []plan.Step{plan.SetRules{Remove: plan.Rules{Base: true, GuardBase: true, ACLBase: true}}}))
}

// New ports get what their switch says and their request does not, and the host's port is
// guarded like any other.
func TestPolicyOfASwitch(t *testing.T) {
	l := newLab(t)
	s := policed()
	s.Gateway = []netip.Prefix{netip.MustParsePrefix("10.5.0.1/24")}
	s.PortDefaults = vswitch.Policy{DHCPGuard: true, StormLimit: 50}
	s.HostPolicy = vswitch.Policy{AddressGuard: true}
	l.mustAdd(s)
	host := vswitch.HostPortSwitchEnd("lan")
	l.wantDrawn(true, "bound { "+host+" to ")
	a := l.mustAttach(guarded(0, vswitch.PolicyChange{StormLimit: ptr(0), RouterGuard: ptr(true)}))
	if want := (vswitch.Policy{DHCPGuard: true, RouterGuard: true}); !a.Port.Policy.Equal(want) {
		t.Errorf("policy %v, want %v", a.Port.Policy, want)
	}
	_, err := l.SetSwitch(context.Background(), "lan", engine.SwitchChange{PortDefaults: &vswitch.PolicyChange{DHCPGuard: ptr(false)}})
	must(t, err)
	l.wantDrawn(true, "dhcp { "+a.Port.Netdev+" }") // what is there keeps what it has
	_, err = l.SetPort(context.Background(), host, engine.PortChange{Policy: vswitch.PolicyChange{AddressGuard: ptr(false), StormLimit: ptr(9)}})
	must(t, err)
	l.wantDrawn(true, "storm { "+host+" limit rate over 9/second }")
	l.wantDrawn(false, "bound { "+host)
	l.wantHealthy()
	_, err = l.SetSwitch(context.Background(), "lan", engine.SwitchChange{Type: ptr(vswitch.Private), Gateway: &[]netip.Prefix{}})
	must(t, err)
	l.wantDrawn(false, host)
	l.wantHealthy()
}

func TestSwitchPolicyRefusals(t *testing.T) {
	for name, s := range map[string]vswitch.Switch{
		"no host port":      {Name: "x", Type: vswitch.Private, HostPolicy: vswitch.Policy{DHCPGuard: true}},
		"unknown address":   {Name: "x", Uplink: "nic0", HostPolicy: vswitch.Policy{AddressGuard: true}},
		"limit of no host":  {Name: "x", Type: vswitch.Private, HostPolicy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1e9}}}},
		"host's limit of 1": {Name: "x", Type: vswitch.Internal, HostPolicy: vswitch.Policy{Bandwidth: vswitch.Bandwidth{In: vswitch.Limit{Max: 1}}}},
		"storm out of any":  {Name: "x", Type: vswitch.Private, PortDefaults: vswitch.Policy{StormLimit: -5}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: s})
			if kind := vswitch.KindOf(err); kind != vswitch.Invalid && kind != vswitch.Range {
				t.Errorf("%v", err)
			}
		})
	}
}

// The host's own port has an ACL as any other.
func TestPolicyOfTheHostsPort(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	before := l.kernel.String()
	host := vswitch.HostPortSwitchEnd("lan")
	set := func(c engine.PortChange) {
		t.Helper()
		_, err := l.SetPort(context.Background(), host, c)
		must(t, err)
		l.wantHealthy()
	}
	set(engine.PortChange{ACL: &engine.ACLChange{Add: aclRules(t, "deny out to 10.9.0.0/16")}})
	l.wantDrawn(true, "deny out to 10.9.0.0/16")
	set(engine.PortChange{ACL: &engine.ACLChange{Delete: aclRules(t, "deny out to 10.9.0.0/16")}})
	after := strings.Replace(l.kernel.String(), "nft table patchbay_acl\n", "", 1) // it goes with the last switch
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
