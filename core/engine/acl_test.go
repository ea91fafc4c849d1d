package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// aclRules are rules by their texts.
func aclRules(t testing.TB, texts ...string) []vswitch.ACLRule {
	t.Helper()
	var rules []vswitch.ACLRule
	for _, text := range texts {
		r, err := vswitch.ParseACLRule(text)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return rules
}

// listed is a request for a port with these rules.
func listed(t testing.TB, i int, texts ...string) engine.AttachRequest {
	return guarded(i, vswitch.PolicyChange{ACL: ptr(aclRules(t, texts...))})
}

func (l *lab) changeACL(i int, c engine.ACLChange) error {
	_, err := l.SetPort(context.Background(), owner(i).PortID(), engine.PortChange{ACL: &c})
	return err
}

func TestACLFollowsThePort(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	l.mustAdd(policed())
	a := l.mustAttach(listed(t, 0, "deny out to 10.0.0.0/8", "allow out to 10.5.0.0/16"))
	drawn := func(rule string) string { return a.Port.Netdev + " { " + rule + " }" }
	l.wantDrawn(true, drawn("deny out to 10.0.0.0/8"), drawn("allow out to 10.5.0.0/16"))
	l.mustAttach(listed(t, 0, "allow out to 10.5.0.0/16", "deny out to 10.0.0.0/8")) // in another order
	l.wantHealthy()

	more := aclRules(t, "deny in tcp to port 25 weight 10")
	must(t, l.changeACL(0, engine.ACLChange{Add: more, Delete: aclRules(t, "allow out to 10.5.0.0/16")}))
	l.wantDrawn(true, drawn("deny out to 10.0.0.0/8"), drawn("deny in tcp to port 25 weight 10"))
	l.wantDrawn(false, drawn("allow out to 10.5.0.0/16"))
	l.wantHealthy()
	before := l.kernel.String()
	wantKind(t, l.changeACL(0, engine.ACLChange{Add: more}), vswitch.AlreadyExists)
	wantKind(t, l.changeACL(0, engine.ACLChange{Delete: aclRules(t, "deny in any")}), vswitch.NotFound)
	wantKind(t, l.changeACL(0, engine.ACLChange{Add: aclRules(t, "allow in tcp to port 20-30 weight 10")}), vswitch.Ambiguous)
	if got := l.kernel.String(); got != before {
		t.Errorf("refusals left\n%s", got)
	}
	_, err := l.Attach(context.Background(), listed(t, 0, "deny in any"))
	wantKind(t, err, vswitch.Conflict)

	l.flushRules()
	l.open()
	if p, err := l.Port(context.Background(), a.Port.ID); err != nil || len(p.Drift) == 0 {
		t.Errorf("flushed rules are no drift: %+v, %v", p, err)
	}
	_, err = l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: policed()})
	must(t, err)
	l.wantDrawn(true, drawn("deny out to 10.0.0.0/8"))
	l.wantHealthy()

	entries, err := l.PortACL(context.Background(), a.Port.ID)
	must(t, err)
	if len(entries) != 2 || entries[0].Text != "deny out to 10.0.0.0/8" || len(entries[1].Hits) != 1 || entries[1].Hits[0].Direction != vswitch.ACLIn {
		t.Errorf("listed: %+v", entries)
	}
	must(t, l.changeACL(0, engine.ACLChange{Delete: aclRules(t, "deny out to 10.0.0.0/8", "deny in tcp to port 25 weight 10")}))
	l.wantDrawn(false, a.Port.Netdev+" {")
	l.wantHealthy()
	l.mustDetach(0)
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantClean(pristine)
}

// A port with an ACL that comes after somebody has flushed the rules brings those of the
// others back, guards as well.
func TestACLsOfAllComeBack(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	req := listed(t, 0, "deny out any")
	req.Policy.DHCPGuard = ptr(true)
	first := l.mustAttach(req)
	l.flushRules()
	req = listed(t, 1, "deny in any")
	req.Addresses = nil
	second := l.mustAttach(req)
	l.wantDrawn(true, first.Port.Netdev+" { deny out any }", second.Port.Netdev+" { deny in any }", "dhcp { "+first.Port.Netdev+" }")
	l.mustDetach(0)
	l.wantDrawn(false, first.Port.Netdev)
}

// Rules that are added at once are all there afterwards, on the host's port as on a guest's.
func TestACLsAddedAtOnce(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	for _, id := range []string{vswitch.HostPortSwitchEnd("lan"), l.mustAttach(guarded(0, vswitch.PolicyChange{})).Port.ID} {
		const rules = 8
		parallel(rules, func(i int) {
			c := engine.ACLChange{Add: aclRules(t, fmt.Sprintf("deny out to 10.%d.0.0/16", i))}
			if _, err := l.SetPort(context.Background(), id, engine.PortChange{ACL: &c}); err != nil {
				t.Error(err)
			}
		})
		p, err := l.Port(context.Background(), id)
		must(t, err)
		if len(p.Policy.ACL) != rules {
			t.Errorf("port %s has %d of %d rules: %v", id, len(p.Policy.ACL), rules, p.Policy.ACL)
		}
	}
	l.wantHealthy()
	_, err := l.SetPort(context.Background(), vswitch.HostPortSwitchEnd("lan"), engine.PortChange{ACL: &engine.ACLChange{Delete: aclRules(t, "deny in any")}})
	wantKind(t, err, vswitch.NotFound)
	if !strings.HasPrefix(err.Error(), "port set ") {
		t.Errorf("the error is another verb's: %v", err)
	}
}

func TestACLNeedsTheKernel(t *testing.T) {
	caps := allCapabilities()
	caps.ACLRules = false
	l := newLabWith(t, caps)
	l.mustAdd(policed())
	_, err := l.Attach(context.Background(), listed(t, 0, "deny out any"))
	wantKind(t, err, vswitch.CapabilityMissing)
	l.mustAttach(guarded(0, vswitch.PolicyChange{}))
	wantKind(t, l.changeACL(0, engine.ACLChange{Add: aclRules(t, "deny out any")}), vswitch.CapabilityMissing)
}

func TestACLRefusals(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	rule := aclRules(t, "deny out any")
	bad := rule[0]
	bad.Stateful = true
	for name, c := range map[string]struct {
		rules []vswitch.ACLRule
		kind  vswitch.Kind
	}{
		"twice":          {append(rule, rule...), vswitch.AlreadyExists},
		"no such rule":   {[]vswitch.ACLRule{bad}, vswitch.Invalid},
		"nothing at all": {[]vswitch.ACLRule{{}}, vswitch.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			before := l.kernel.String()
			_, err := l.Attach(context.Background(), guarded(1, vswitch.PolicyChange{ACL: &c.rules}))
			wantKind(t, err, c.kind)
			if got := l.kernel.String(); got != before {
				t.Errorf("the refusal left\n%s", got)
			}
		})
	}
}

// A list that the kernel refuses at any step leaves the port as it was.
func TestACLChangeFails(t *testing.T) {
	prepare := func(t *testing.T) *lab {
		l := newLab(t)
		l.mustAdd(policed())
		l.mustAttach(listed(t, 0, "deny out any"))
		return l
	}
	change := func(l *lab) error {
		return l.changeACL(0, engine.ACLChange{Add: aclRules(l.t, "deny in any"), Delete: aclRules(l.t, "deny out any")})
	}
	l := prepare(t)
	want := l.kernel.String()
	l.kernel.FailAt(1, errBroken)
	if err := change(l); err == nil {
		t.Fatal("it did not fail")
	}
	l.kernel.FailAt(0, nil)
	if diff := cmp.Diff(want, l.kernel.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.wantHealthy()
	must(t, change(l))
}

// Rules that many add at the same time are all there in the end.
func TestACLConcurrently(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	l.mustAttach(listed(t, 0, "deny out any"))
	const workers, each = 4, 5
	parallel(workers, func(w int) {
		for k := range each {
			rule := fmt.Sprintf("deny in tcp to port %d weight %d", 1+k, 1+w*each+k)
			if err := l.changeACL(0, engine.ACLChange{Add: aclRules(t, rule)}); err != nil {
				t.Error(err)
			}
		}
	})
	entries, err := l.PortACL(context.Background(), owner(0).PortID())
	if err != nil || len(entries) != 1+workers*each {
		t.Errorf("%d rules, %v", len(entries), err)
	}
	l.wantHealthy()
}

// A process that is killed over taking a port's policy away leaves nothing that the same
// verb, the port's status or its detachment does not find.
func TestPolicyTakenAwayByAKilledProcess(t *testing.T) {
	for cleaner, clean := range map[string]func(*lab) error{
		"again":  func(l *lab) error { return l.changeACL(0, engine.ACLChange{}) },
		"detach": func(l *lab) error { l.mustDetach(0); return nil },
		"attach": func(l *lab) error { l.mustAttach(guarded(0, vswitch.PolicyChange{})); return nil },
	} {
		t.Run(cleaner, func(t *testing.T) {
			l := newLab(t)
			l.mustAdd(policed())
			req := listed(t, 0, "deny out any")
			req.Policy.DHCPGuard = ptr(true)
			a := l.mustAttach(req)
			l.kernel.DieAt(1)
			if !dies(func() error {
				_, err := l.SetPort(context.Background(), a.Port.ID, engine.PortChange{Policy: vswitch.PolicyChange{ACL: &[]vswitch.ACLRule{}, DHCPGuard: ptr(false)}})
				return err
			}) {
				t.Fatal("the process was not killed")
			}
			l.kernel.Revive()
			l.open()
			l.wantDrawn(true, a.Port.Netdev+" { deny out any }", "dhcp { "+a.Port.Netdev+" }")
			if p, err := l.Port(context.Background(), a.Port.ID); err != nil || len(p.Drift) == 0 {
				t.Errorf("no drift: %v, %v", p.Drift, err)
			}
			must(t, clean(l))
			l.wantDrawn(false, a.Port.Netdev+" { deny out any }", "dhcp { "+a.Port.Netdev+" }")
		})
	}
}
