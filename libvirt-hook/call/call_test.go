package call_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
	"github.com/patchbay-net/patchbay/libvirt-hook/recorded"
)

func TestParse(t *testing.T) {
	want := wire.HookCall{Driver: "qemu", Object: "vm1", Operation: "release", Extra: "destroyed"}
	for name, c := range map[string]struct {
		args []string
		want wire.HookCall
	}{
		"a directory of hooks":      {[]string{"/etc/libvirt/hooks/qemu.d/50-patchbay", "vm1", "release", "end", "destroyed"}, want},
		"the one hook":              {[]string{"/etc/libvirt/hooks/qemu", "vm1", "release", "end", "destroyed"}, want},
		"by hand":                   {[]string{"bin/patchbay-libvirt-hook", "qemu", "vm1", "release", "end", "destroyed"}, want},
		"a VM that is called qemu":  {[]string{"/etc/libvirt/hooks/qemu.d/50-patchbay", "qemu", "start", "begin", "-"}, wire.HookCall{Driver: "qemu", Object: "qemu", Operation: "start", Extra: "-"}},
		"no more than is needed":    {[]string{"network.d/x", "net", "start"}, wire.HookCall{Driver: "network", Object: "net", Operation: "start"}},
		"a port as of libvirt 5.4":  {[]string{"network.d/x", "net", "plugged", "begin", "-"}, wire.HookCall{Driver: "network", Object: "net", Operation: "port-created", Extra: "-"}},
		"its end":                   {[]string{"network.d/x", "net", "unplugged", "begin", "-"}, wire.HookCall{Driver: "network", Object: "net", Operation: "port-deleted", Extra: "-"}},
		"the daemon's own":          {[]string{"/etc/libvirt/hooks/daemon.d/50-patchbay", "-", "start", "-", "start"}, wire.HookCall{}},
		"a directory called qemu.d": {[]string{"/qemu.d/sub/hook", "vm1", "start"}, wire.HookCall{}},
		"too little":                {[]string{"/etc/libvirt/hooks/qemu.d/50-patchbay", "vm1"}, wire.HookCall{}},
		"a driver alone":            {[]string{"hook", "qemu"}, wire.HookCall{}},
		"nothing":                   {nil, wire.HookCall{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := call.Parse(c.args)
			if diff := cmp.Diff(c.want, got); diff != "" || ok != (c.want.Driver != "") {
				t.Errorf("%v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

// Libvirt kills a running guest over a reconnect that fails, and leaves a bridge behind over
// a network that fails to be started.
func TestMayFail(t *testing.T) {
	for _, c := range []struct {
		driver        string
		operation     string
		does, mayFail bool
	}{
		{"network", "start", true, true},
		{"network", "started", false, false},
		{"network", "updated", false, false},
		{"network", "stopped", false, false},
		{"network", "port-created", true, true},
		{"network", "port-deleted", true, false},
		{"network", "reconnect", false, false},
		{"qemu", "prepare", true, true},
		{"qemu", "start", true, true},
		{"qemu", "started", false, false},
		{"qemu", "stopped", true, false},
		{"qemu", "release", true, false},
		{"qemu", "reconnect", true, false},
		{"qemu", "migrate", true, true},
		{"qemu", "restore", true, true},
		{"qemu", "attach", true, true},
		{"qemu", "whatever-comes", false, false},
		{"lxc", "reconnect", true, false},
		{"lxc", "start", true, true},
	} {
		x := wire.HookCall{Driver: c.driver, Operation: c.operation}
		if call.Begins(&x) != c.does || call.MayFail(&x) != c.mayFail {
			t.Errorf("%s %s: does %v, may fail %v", c.driver, c.operation, call.Begins(&x), call.MayFail(&x))
		}
	}
}

func TestMarked(t *testing.T) {
	for name, c := range map[string]struct {
		driver, document string
		marked           bool
	}{
		"a network of ours":        {"network", "<network><metadata><p:switch xmlns:p='" + network.Namespace + "'/>", true},
		"a domain of ours":         {"qemu", "<domain><metadata><p:ports xmlns:p='" + domain.Namespace + "'/>", true},
		"a domain on its way":      {"qemu", "<domain><metadata><p:state xmlns:p='" + domain.StateNamespace + "'/>", true},
		"a bridge of ours":         {"qemu", "<interface type='bridge'><source bridge='pb-prod'/>", true},
		"in double quotes":         {"qemu", "<source network=\"x\" bridge=\"pb-prod\"/>", true},
		"a network on our bridge":  {"network", "<network><forward mode='bridge'/><bridge name='pb-prod'/>", true},
		"a port that is called so": {"network", "<network><bridge name='virbr0'/></network><x name='pb-prod'/>", false},
		"another bridge":           {"qemu", "<source bridge='br0'/>", false},
		"a longer attribute":       {"qemu", "<x mybridge='pb-prod'/>", false},
		"a bridge without an end":  {"qemu", "<source bridge='pb-prod", false},
		"no bridge":                {"qemu", "<source bridge=", false},
		"nothing":                  {"qemu", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := call.Marked(&wire.HookCall{Driver: c.driver, Stdin: []byte(c.document)}); got != c.marked {
				t.Errorf("%v", got)
			}
		})
	}
}

// Nothing that was recorded on hosts without Patchbay is taken for ours, and the networks of
// each domain are seen.
func TestRecordedIsForeign(t *testing.T) {
	for _, version := range recorded.Versions() {
		networks := make(map[string]bool)
		calls := recorded.Calls(t, version)
		for _, r := range calls {
			c, ok := call.Parse(append([]string{"/etc/libvirt/hooks/" + r.Hook + ".d/50-patchbay"}, r.Args...))
			c.Stdin = r.Stdin
			if !ok || call.Marked(&c) {
				t.Errorf("%s: %v, marked %v", r.Name(), ok, call.Marked(&c))
			}
			if c.Driver != call.Network {
				call.Networks(&c, func(name string) { networks[name] = true })
			}
		}
		const fewest = 120
		if len(calls) < fewest {
			t.Errorf("%d calls of %s", len(calls), version)
		}
		for _, name := range []string{"ext-bridge", "iso", "sriov-pool", "ovs-trunk", "macvtap"} {
			if !networks[name] {
				t.Errorf("%s: network %s is not seen", version, name)
			}
		}
		delete(networks, "")
		if len(networks) != 5 {
			t.Errorf("networks of %s: %v", version, networks)
		}
	}
}

// What a domain is prepared for stands in our metadata; all else waits until it has taps.
func TestDoes(t *testing.T) {
	const ours = "<domain><metadata><p:ports xmlns:p='https://patchbay.net/xmlns/libvirt/domain/1.0'/></metadata></domain>"
	const plugged = "<domain><source network='prod' bridge='pb-prod'/></domain>"
	for _, c := range []struct {
		operation, document string
		does                bool
	}{
		{call.Prepare, ours, true},
		{call.Prepare, plugged, false},
		{call.Restore, ours, true},
		{call.Restore, plugged, false},
		{call.Migrate, plugged, true},
		{call.Start, plugged, true},
		{"started", ours, false},
	} {
		if does := call.Does(&wire.HookCall{Driver: call.QEMU, Operation: c.operation, Stdin: []byte(c.document)}); does != c.does {
			t.Errorf("%s of %s: %v", c.operation, c.document, does)
		}
	}
}

func FuzzMarked(f *testing.F) {
	f.Add([]byte("<source network='net' bridge='pb-prod'/>"))
	f.Add([]byte("<bridge name='pb-x'"))
	f.Fuzz(func(t *testing.T, document []byte) {
		for _, driver := range []string{call.Network, call.QEMU} {
			c := wire.HookCall{Driver: driver, Stdin: slices.Clone(document)}
			_ = call.Marked(&c)
			call.Networks(&c, func(name string) {
				if len(name) > len(document) {
					t.Errorf("%q of %q", name, document)
				}
			})
			if !slices.Equal(c.Stdin, document) {
				t.Error("the document is not as it was")
			}
		}
	})
}
