package plugin

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func attachment() engine.Attachment {
	table, scope := 100, 0
	return engine.Attachment{
		Port: vswitch.Port{
			ID: "pbx", Netdev: "pbx", MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, MTU: 1400, Owner: vswitch.Owner{Endpoint: "eth0"},
			Addresses: []vswitch.Address{
				{Prefix: netip.MustParsePrefix("10.0.0.5/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
				{Prefix: netip.MustParsePrefix("fd00::5/64")},
			},
			Routes: []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.1"), MTU: 1300, AdvMSS: 1200, Priority: 7, Table: &table, Scope: &scope}},
		},
		Switch:  engine.SwitchStatus{Bridge: "pb-s", BridgeMAC: vswitch.MAC{0xe, 1}, EffectiveMTU: 1500},
		HostMAC: vswitch.MAC{0xe, 2},
	}
}

// asVersion prints a result as a runtime of that version reads it.
func asVersion(t *testing.T, r *types100.Result, version string) map[string]any {
	t.Helper()
	r, err := since110(r, version)
	if err != nil {
		t.Fatal(err)
	}
	converted, err := r.GetAsVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := converted.PrintTo(&b); err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestResult(t *testing.T) {
	got := asVersion(t, resultOf(attachment(), "/run/netns/c", nil), "1.1.0")
	want := map[string]any{
		"cniVersion": "1.1.0",
		"interfaces": []any{
			map[string]any{"name": "pb-s", "mac": "0e:01:00:00:00:00", "mtu": 1500.0},
			map[string]any{"name": "pbx", "mac": "0e:02:00:00:00:00", "mtu": 1400.0},
			map[string]any{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1400.0, "sandbox": "/run/netns/c"},
		},
		"ips": []any{
			map[string]any{"interface": 2.0, "address": "10.0.0.5/24", "gateway": "10.0.0.1"},
			map[string]any{"interface": 2.0, "address": "fd00::5/64"},
		},
		"routes": []any{map[string]any{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1300.0, "advmss": 1200.0, "priority": 7.0, "table": 100.0, "scope": 0.0}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What a version does not know is left out for it, and its own keys are there.
func TestResultConvertedDown(t *testing.T) {
	for _, version := range []string{"1.0.0", "0.4.0", "0.3.1"} {
		m := asVersion(t, resultOf(attachment(), "/run/netns/c", nil), version)
		if m["cniVersion"] != version {
			t.Errorf("%s became %v", version, m["cniVersion"])
		}
		for _, later := range []string{`"mtu"`, `"advmss"`, `"priority"`, `"table"`, `"scope"`} {
			if text, _ := json.Marshal(m); strings.Contains(string(text), later) {
				t.Errorf("%s: %s is of 1.1.0: %s", version, later, text)
			}
		}
		ip := m["ips"].([]any)[0].(map[string]any)
		if _, has := ip["version"]; has != (version < "1.0.0") {
			t.Errorf("%s: an address is %v", version, ip)
		}
	}
}

func TestResultBehindAnother(t *testing.T) {
	prev := &types100.Result{Interfaces: []*types100.Interface{
		{Name: "tap0"}, {Name: "eth0", Sandbox: "vm-1", Mac: "52:54:00:00:00:07"},
	}}
	var req engine.AttachRequest
	req.Owner.Endpoint = "eth0"
	if err := adopt(&req, prev); err != nil || req.Netdev != "tap0" || req.MAC.String() != "52:54:00:00:00:07" {
		t.Fatalf("%+v, %v", req, err)
	}
	a := attachment()
	a.Port.Netdev, a.Port.Adopted = "tap0", true
	r := resultOf(a, "", prev)
	var names []string
	for _, i := range r.Interfaces {
		names = append(names, i.Name)
	}
	if diff := cmp.Diff([]string{"tap0", "eth0", "pb-s"}, names); diff != "" {
		t.Error(diff)
	}
	if *r.IPs[0].Interface != 1 {
		t.Errorf("the address is on interface %d", *r.IPs[0].Interface)
	}
	prev.Interfaces = append(prev.Interfaces[:2], &types100.Interface{Name: "cni0"})
	wantCode(t, adopt(&engine.AttachRequest{}, prev), 7, "tap0", "cni0")
}
