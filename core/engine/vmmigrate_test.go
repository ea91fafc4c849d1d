package engine_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// external is switch prod on a NIC.
func external() vswitch.Switch {
	return vswitch.Switch{Name: "prod", Type: vswitch.External, Uplink: "nic0", HostAccess: ptr(false)}
}

// arrive is what the hooks do on the host that a VM comes to.
func (l *lab) arrive(state *engine.DomainState) vswitch.Port {
	l.t.Helper()
	must(l.t, l.ExpectDomain(context.Background(), engine.ExpectDomainRequest{Domain: vm("").Domain(), State: state}))
	l.mustReserve(reserveWeb("there"))
	l.kernel.AddNetdev(vnet("vnet7", 70))
	return l.mustBind(engine.BindPortRequest{Owner: vm("there"), Netdev: "vnet7"})
}

// announced reports whether the network outside was told of web01 in a VLAN.
func (l *lab) announced(vlan int) bool { return l.kernel.Heard(webMAC, vlan) != "" }

// TestMigration takes a VM from one host to another: what its port is arrives with it, and
// nothing draws its traffic before it runs there.
func TestMigration(t *testing.T) {
	ctx := context.Background()
	here, there := newLab(t), newLab(t)
	here.mustAdd(external())
	there.mustAdd(external())
	ten := vswitch.AccessVLAN(10)
	req := reserveWeb("here")
	req.VLAN, req.Policy.StormLimit = &ten, ptr(100)
	here.mustReserve(req)
	here.kernel.AddNetdev(vnet("vnet0", 40))
	here.mustBind(engine.BindPortRequest{Owner: vm("here"), Netdev: "vnet0"})
	_, err := here.SetPort(ctx, "web01", engine.PortChange{Policy: vswitch.PolicyChange{ACL: ptr(aclRules(t, "deny out to 10.0.0.0/8")), DHCPGuard: ptr(true)}})
	must(t, err)
	here.kernel.SetCounters("vnet0", kernel.PortCounters{Counters: kernel.Counters{RxPackets: 3, RxBytes: 300, TxPackets: 4, TxBytes: 400}})
	exported, err := here.ExportDomain(ctx, webUUID)
	must(t, err)
	text, err := json.Marshal(exported)
	must(t, err)
	if len(text) > 1000 {
		t.Errorf("the state of a port takes %d bytes: %s", len(text), text)
	}
	var state engine.DomainState
	must(t, json.Unmarshal(text, &state))
	before := here.kernel.String()

	p := there.arrive(&state)
	if p.VM.Stage != vswitch.VMIncoming || there.announced(10) || strings.Contains(there.kernel.String(), "fdb add "+webMAC.String()) {
		t.Errorf("it is not silent: %+v\n%s", p, there.kernel)
	}
	was, err := here.Port(ctx, "web01")
	must(t, err)
	for _, what := range []struct{ name, want, got string }{
		{"VLAN", was.VLAN.String(), p.VLAN.String()}, {"policy", was.Policy.String(), p.Policy.String()},
	} {
		if what.want != what.got {
			t.Errorf("%s is %s, want %s", what.name, what.got, what.want)
		}
	}
	there.wantBound(vm("there"), "vnet7")
	guarded := there.kernel.String()
	if !strings.Contains(guarded, "vnet7 "+webMAC.String()) && !strings.Contains(guarded, "vnet7 . "+webMAC.String()) {
		t.Errorf("it may send from any address:\n%s", guarded)
	}

	active, err := there.ActivateDomain(ctx, webUUID)
	must(t, err)
	if len(active) != 1 || active[0].VM.Stage != vswitch.VMActive || !there.announced(10) {
		t.Errorf("activated: %+v, announced %v", active, there.announced(10))
	}
	there.wantBound(vm("there"), "vnet7")
	if again, err := there.ActivateDomain(ctx, webUUID); err != nil || len(again) != 0 {
		t.Errorf("activated again: %+v, %v", again, err)
	}
	there.kernel.SetCounters("vnet7", kernel.PortCounters{Counters: kernel.Counters{RxPackets: 10, RxBytes: 1000, TxPackets: 20, TxBytes: 2000}})
	stats, err := there.PortStats(ctx, engine.PortStatsRequest{Port: "web01"})
	must(t, err)
	if s := stats[0]; s.Out.Packets != 13 || s.Out.Bytes != 1300 || s.In.Packets != 24 || s.In.Bytes != 2400 {
		t.Errorf("it has counted %+v", s)
	}
	if diff := cmp.Diff(before, here.kernel.String()); diff != "" {
		t.Errorf("the other host has changed meanwhile:\n%s", diff)
	}
	// A second hop adds up.
	next, err := there.ExportDomain(ctx, webUUID)
	must(t, err)
	if next.Ports[0].Counted.OutPackets != 13 {
		t.Errorf("exported: %+v", next)
	}
	for _, host := range []struct {
		*lab
		tap, port string
	}{{here, "vnet0", "here"}, {there, "vnet7", "there"}} {
		host.kernel.RemoveNetdev(host.tap)
		must(t, host.ReleasePort(ctx, vm(host.port)))
		must(t, host.ReleaseDomain(ctx, webUUID))
		must(t, host.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod"}))
	}
}

// TestMigrationFails: the host that the VM was to come to forgets it, and the next start there
// is one like any other.
func TestMigrationFails(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.mustAdd(external())
	pristine := l.kernel.String()
	l.arrive(nil)
	l.kernel.RemoveNetdev("vnet7")
	must(t, l.ReleaseDomain(ctx, webUUID))
	if diff := cmp.Diff(pristine, l.kernel.String()); diff != "" || l.announced(0) {
		t.Errorf("left:\n%s", diff)
	}
	l.mustReserve(reserveWeb("p1"))
	l.kernel.AddNetdev(vnet("vnet8", 80))
	if p := l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet8"}); p.VM.Stage != vswitch.VMActive {
		t.Errorf("a start is taken for an arrival: %+v", p)
	}
}

// An announcement that nothing came of does not silence a VM that is started later.
func TestExpectationEnds(t *testing.T) {
	l := newLab(t)
	l.mustAdd(external())
	must(t, l.ExpectDomain(context.Background(), engine.ExpectDomainRequest{Domain: vm("").Domain()}))
	l.openAfter(2 * time.Minute)
	l.mustReserve(reserveWeb("p1"))
	l.kernel.AddNetdev(vnet("vnet0", 40))
	if p := l.mustBind(engine.BindPortRequest{Owner: vm("p1"), Netdev: "vnet0"}); p.VM.Stage != vswitch.VMActive {
		t.Errorf("the port is %+v", p)
	}
}

// TestExpectationsAreForgotten: nobody may have come to say that a VM does not.
func TestExpectationsAreForgotten(t *testing.T) {
	ctx := context.Background()
	for _, end := range []struct {
		name  string
		after time.Duration
		do    func(*lab) error
	}{
		{"another one", 2 * time.Minute, func(l *lab) error {
			return l.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: db("").Domain()})
		}},
		{"gc", 2 * time.Minute, func(l *lab) error { _, err := l.GC(ctx, engine.GCRequest{}); return err }},
		{"gc, the clock set back", -2 * time.Minute, func(l *lab) error { _, err := l.GC(ctx, engine.GCRequest{}); return err }},
		{"it runs without a port that waits", 0, func(l *lab) error { _, err := l.ActivateDomain(ctx, webUUID); return err }},
		{"it does not come", 0, func(l *lab) error { return l.ReleaseDomain(ctx, webUUID) }},
	} {
		t.Run(end.name, func(t *testing.T) {
			l := newLab(t)
			must(t, l.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: vm("").Domain()}))
			expected := func() (is bool) {
				must(t, l.store().View(func(tx *store.Tx) (err error) {
					_, is, err = tx.Expected(webUUID)
					return err
				}))
				return is
			}
			_, err := l.GC(ctx, engine.GCRequest{})
			must(t, err)
			if !expected() {
				t.Fatal("it is not expected")
			}
			l.openAfter(end.after)
			must(t, end.do(l))
			if expected() {
				t.Error("it is expected still")
			}
		})
	}
}

func TestDomainStateRefused(t *testing.T) {
	good := engine.PortState{Switch: "prod", MAC: webMAC}
	for _, c := range []struct {
		name  string
		state engine.DomainState
		want  vswitch.Kind
	}{
		{"none", engine.DomainState{}, vswitch.Conflict},
		{"later", engine.DomainState{Version: engine.DomainStateVersion + 1}, vswitch.Conflict},
		{"too many", engine.DomainState{Version: 1, Ports: slices.Repeat([]engine.PortState{good}, 257)}, vswitch.Range},
		{"bad MAC", engine.DomainState{Version: 1, Ports: []engine.PortState{{Switch: "prod"}}}, vswitch.MACInvalid},
		{"bad VLAN", engine.DomainState{Version: 1, Ports: []engine.PortState{{Switch: "prod", MAC: webMAC, VLAN: vswitch.AccessVLAN(5000)}}}, vswitch.VLANRange},
		{"bad policy", engine.DomainState{Version: 1, Ports: []engine.PortState{{Switch: "prod", MAC: webMAC, Policy: vswitch.Policy{StormLimit: -1}}}}, vswitch.Range},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			wantKind(t, l.ExpectDomain(context.Background(), engine.ExpectDomainRequest{Domain: vm("").Domain(), State: &c.state}), c.want)
		})
	}
}

// TestDestinationLacks: what the other host has and this one cannot do is refused before any
// memory moves.
func TestDestinationLacks(t *testing.T) {
	ctx := context.Background()
	caps := allCapabilities()
	caps.VLANFiltering = false
	l := newLabWith(t, caps)
	l.mustAdd(external())
	state := &engine.DomainState{Version: 1, Ports: []engine.PortState{{Switch: "prod", MAC: webMAC, VLAN: vswitch.AccessVLAN(10)}}}
	must(t, l.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: vm("").Domain(), State: state}))
	_, err := l.ReservePort(ctx, reserveWeb("p1"))
	wantKind(t, err, vswitch.CapabilityMissing)
}

// TestKeptWhileIncoming: a VM that has not come yet is not announced when the uplink changes,
// and patchbayd takes its silence for no drift.
func TestKeptWhileIncoming(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.mustAdd(external())
	k := l.keep()
	k.arrive(nil)
	_, err := k.SetSwitch(ctx, "prod", engine.SwitchChange{Uplink: ptr("nic1")})
	must(t, err)
	if l.announced(0) {
		t.Errorf("it was announced:\n%s", strings.Join(l.kernel.Log(), "\n"))
	}
	l.kernel.Overrun()
	k.wantBound(vm("there"), "vnet7")
	_, err = k.ActivateDomain(ctx, webUUID)
	must(t, err)
	if !l.announced(0) {
		t.Error("it was not announced when it came")
	}
	if text, _ := k.logged(); strings.Contains(text, "msg=repaired") {
		t.Errorf("drift was found:\n%s", text)
	}
}

// TestFlushedWhileIncoming: whoever flushes the ruleset does not set a VM free that has not come.
func TestFlushedWhileIncoming(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.mustAdd(external())
	l.arrive(nil)
	must(t, l.kernel.Apply(ctx, []plan.Step{plan.SetRules{Remove: plan.Rules{Base: true}}}))
	_, err := l.SetSwitch(ctx, "prod", engine.SwitchChange{})
	must(t, err)
	l.wantBound(vm("there"), "vnet7")
}
