package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// guardTable is made with the first guard and stays.
const guardTable = "nft table patchbay_guards\n"

// FuzzDomainState reads what another host says. What is taken is written as it was read, and a
// VM that comes with it is refused for a reason, or leaves nothing behind when it goes.
func FuzzDomainState(f *testing.F) {
	ten := vswitch.AccessVLAN(10)
	for _, s := range []engine.DomainState{
		{Version: 1, Ports: []engine.PortState{{Switch: "prod", MAC: webMAC, VLAN: ten, Isolated: true, Narrowed: `{"isolated":true}`, Counted: vswitch.VMCounts{InBytes: 9}}}},
		{Version: 1, Ports: []engine.PortState{{Switch: "prod", MAC: webMAC, Policy: vswitch.Policy{StormLimit: 7, DHCPGuard: true, Mirror: vswitch.MirrorSource}}}},
		{Version: engine.DomainStateVersion + 1},
	} {
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(`{"version":1,"ports":null,"turbo":1}`)
	host := fuzzLab(f)
	f.Fuzz(func(t *testing.T, text string) {
		var s engine.DomainState
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return
		}
		written, err := json.Marshal(s)
		var again engine.DomainState
		if err = errors.Join(err, json.Unmarshal(written, &again)); text != "null" && err != nil || !cmp.Equal(s, again) {
			t.Fatalf("%s is read as %+v and written as %s: %v", text, s, written, err)
		}
		if s.Validate() != nil || len(s.Ports) == 0 {
			return
		}
		l := host(t)
		pristine := strings.Replace(l.kernel.String(), guardTable, "", 1)
		ctx := context.Background()
		must(t, l.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: vm("").Domain(), State: &s}))
		req := reserveWeb("p1")
		req.MAC = s.Ports[0].MAC
		if p, err := l.ReservePort(ctx, req); err != nil {
			wantReason(t, err)
		} else if p.Switch == s.Ports[0].Switch && !p.Policy.Equal(s.Ports[0].Policy) {
			t.Errorf("it came as %+v", p)
		}
		must(t, l.ReleaseDomain(ctx, webUUID))
		now := strings.Replace(l.kernel.String(), guardTable, "", 1)
		if diff := cmp.Diff(pristine, now); diff != "" {
			t.Errorf("left:\n%s", diff)
		}
		l.wantNoGuests()
	})
}

// fuzzLab is one lab with switch prod for all inputs, each of which has to leave it as it was.
func fuzzLab(f *testing.F) func(*testing.T) *lab {
	made := lab{dirs: store.Dirs{State: storetest.Dir(f), Run: storetest.Dir(f)}, boot: "boot-1"}
	made.kernel = kernel.NewFake(kernel.FakeConfig{Netdevs: nics(), Capabilities: allCapabilities()})
	made.open()
	return func(t *testing.T) *lab {
		l := made
		l.t = t
		if all, err := l.Switches(context.Background()); err != nil || len(all) == 0 {
			l.mustAdd(internal())
		}
		return &l
	}
}

// wantReason fails over an error that does not say of what kind it is.
func wantReason(t *testing.T, err error) {
	t.Helper()
	var e *vswitch.Error
	if !errors.As(err, &e) || e.Kind == "" {
		t.Errorf("an error without a kind: %v", err)
	}
}

// FuzzVMRequest makes requests of whatever JSON is on patchbayd's socket. Each is carried out or
// refused for a reason, and when the VM has gone, so has all that was its.
func FuzzVMRequest(f *testing.F) {
	ten, on := vswitch.AccessVLAN(10), true
	for i, req := range []any{
		engine.ReservePortRequest{Owner: vm("p1"), Switch: "prod", MAC: webMAC, MTU: 1400, VLAN: &ten, Isolated: true, Policy: vswitch.PolicyChange{DHCPGuard: &on}},
		engine.BindPortRequest{Owner: vm("p0"), Netdev: "vnet0", Alias: "ua-web", Override: vswitch.Narrowing{Isolated: &on, Policy: vswitch.PolicyChange{StormLimit: ptr(7)}}},
		engine.ExpectDomainRequest{Domain: vm("").Domain(), State: &engine.DomainState{Version: 1}},
		engine.HoldMACRequest{Domain: vm("").Domain(), MAC: webMAC, NIC: "ua-web"},
		engine.ReleaseMACRequest{Domain: vm("").Domain()},
		engine.TapRequest{Domain: vm("").Domain(), Name: "pt-web", MAC: webMAC, Queues: 2},
		vm("p0"),
	} {
		text, err := json.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), string(text))
	}
	host := fuzzLab(f)
	f.Fuzz(func(t *testing.T, verb byte, text string) {
		run := vmRequest(verb, []byte(text))
		if run == nil {
			return
		}
		l := host(t)
		l.kernel.AddNetdev(vnet("vnet0", 40))
		pristine := strings.Replace(l.kernel.String(), guardTable, "", 1)
		l.mustReserve(reserveWeb("p0"))
		domain, err := run(l.Engine)
		if err != nil {
			wantReason(t, err)
		}
		for _, id := range []string{webUUID, domain.ID} {
			if id != "" {
				must(t, l.ReleaseDomain(context.Background(), id))
			}
		}
		l.kernel.RemoveNetdev("vnet0")
		l.kernel.AddNetdev(vnet("vnet0", 40))
		defer l.kernel.RemoveNetdev("vnet0")
		now := strings.Replace(l.kernel.String(), guardTable, "", 1)
		if diff := cmp.Diff(pristine, now); diff != "" {
			t.Errorf("left:\n%s", diff)
		}
		l.wantNoGuests()
	})
}

// vmRequest is a verb with what the text says, which returns whose VM it was about; nil for a text
// that is no request.
func vmRequest(verb byte, text []byte) func(*engine.Engine) (vswitch.DomainRef, error) {
	ctx := context.Background()
	var reserve engine.ReservePortRequest
	var bind engine.BindPortRequest
	var expect engine.ExpectDomainRequest
	var hold engine.HoldMACRequest
	var release engine.ReleaseMACRequest
	var tap engine.TapRequest
	var owner vswitch.Owner
	verbs := []struct {
		into any
		do   func(*engine.Engine) (vswitch.DomainRef, error)
	}{
		{&reserve, func(e *engine.Engine) (vswitch.DomainRef, error) {
			_, err := e.ReservePort(ctx, reserve)
			return vmOf(reserve.Owner, err), err
		}},
		{&bind, func(e *engine.Engine) (vswitch.DomainRef, error) {
			_, err := e.BindPort(ctx, bind)
			return vmOf(bind.Owner, err), err
		}},
		{&expect, func(e *engine.Engine) (vswitch.DomainRef, error) {
			return vswitch.DomainRef{}, e.ExpectDomain(ctx, expect)
		}},
		{&hold, func(e *engine.Engine) (vswitch.DomainRef, error) {
			h, err := e.HoldMAC(ctx, hold)
			if err == nil {
				_, err = e.ReleaseMAC(ctx, engine.ReleaseMACRequest{MAC: h.MAC})
			}
			return vswitch.DomainRef{}, err
		}},
		{&release, func(e *engine.Engine) (vswitch.DomainRef, error) {
			_, err := e.ReleaseMAC(ctx, release)
			return vswitch.DomainRef{}, err
		}},
		{&tap, func(e *engine.Engine) (vswitch.DomainRef, error) {
			err := e.MakeTap(ctx, tap)
			if err == nil {
				err = e.DeleteTap(ctx, tap)
			}
			return vswitch.DomainRef{}, err
		}},
		{&owner, func(e *engine.Engine) (vswitch.DomainRef, error) {
			return vswitch.DomainRef{}, e.ReleasePort(ctx, owner)
		}},
	}
	v := verbs[int(verb)%len(verbs)]
	if json.Unmarshal(text, v.into) != nil {
		return nil
	}
	return v.do
}

// vmOf is whose VM a port is that was made.
func vmOf(o vswitch.Owner, err error) vswitch.DomainRef {
	if err != nil {
		return vswitch.DomainRef{}
	}
	return o.Domain()
}
