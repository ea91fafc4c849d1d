package hook_test

import (
	"context"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/hook"
	"github.com/patchbay-net/patchbay/libvirt-hook/recorded"
)

type recordedCall = recorded.Call

// What of the recorded calls Patchbay refuses: libvirt's own VLANs and bandwidth, and a
// network on a switch's bridge that does not name the switch.
var refusals = map[string]string{
	"bandwidth/network-port-created-begin.bandwidth":                           "libvirt's own <bandwidth>",
	"default-portgroup-vlan/network-port-created-begin.default-portgroup-vlan": "libvirt's own <vlan>",
	"teaming/network-port-created-begin.teaming":                               "libvirt's own <bandwidth>",
	"ovs/network-port-created-begin.ovs":                                       "does not name switch ext",
	"ovs/qemu-start-begin.ovs":                                                 "is not reserved",
}

// A host lives through all that was recorded, as it would have been had its networks been
// Patchbay's. Every call has the answer that it should have, and whoever is released leaves
// nothing.
func TestReplay(t *testing.T) {
	for _, version := range recorded.Versions() {
		t.Run(version, func(t *testing.T) {
			hosts := map[string]*lab{"h1": newLab(t), "dst": newLab(t)}
			hosts["src"] = hosts["h1"]
			before := hosts["h1"].kernel.String()
			tapMACs := make(map[string]vswitch.MAC) // as the last call said that told
			for _, r := range recorded.Calls(t, version) {
				l := hosts[r.Host]
				learnMACs(t, tapMACs, r)
				text := adopted(t, r)
				if r.Scenario == "lxc" {
					l.setPair(r, text)
				} else {
					l.setTaps(bridgesOf(r.Taps), tapMACs)
				}
				says := l.serve(r.Hook, r.Args, text)
				want := refusals[r.Name()]
				if !strings.Contains(says, want) || want == "" && says != "" {
					t.Errorf("%s says %q, want %q", r.Name(), says, want)
				}
				if want == "" {
					l.after(r, text)
				}
			}
			hosts["h1"].setTaps(nil, nil)
			if left := hosts["h1"].portsOf(""); len(left) > 0 {
				t.Errorf("left behind: %+v", left)
			}
			if now := strings.Replace(hosts["h1"].kernel.String(), "nft table patchbay_guards\n", "", 1); now != before { // which stays, empty
				t.Errorf("the kernel is\n%s\nnot as it was\n%s", now, before)
			}
		})
	}
}

// after looks at what a call has left.
func (l *lab) after(r recordedCall, text string) {
	l.t.Helper()
	if r.Hook != call.QEMU {
		return
	}
	d, err := domain.Parse([]byte(text))
	if err != nil {
		l.t.Fatal(err)
	}
	switch r.Args[1] {
	case call.Start, call.Reconnect:
		l.allBound(r, d)
	case call.Stopped, call.Release:
		if left := l.portsOf(d.UUID); len(left) > 0 {
			l.t.Errorf("%s leaves %+v", r.Name(), left)
		}
	}
}

// allBound looks for a port with the right policy for each interface on a switch.
func (l *lab) allBound(r recordedCall, d domain.Domain) {
	l.t.Helper()
	stage := vswitch.VMActive
	if r.Host == "dst" {
		stage = vswitch.VMIncoming
	}
	ports := make(map[string]vswitch.Port)
	for _, p := range l.portsOf(d.UUID) {
		ports[p.Netdev] = p
	}
	for _, n := range d.NICs {
		if !domain.OnSwitch(n.Bridge) || n.Type != domain.TypeBridge && n.Type != domain.TypeNetwork {
			continue
		}
		p, bound := ports[n.Netdev]
		if !bound || p.VM.Stage != stage || p.VM.Alias != n.Alias || p.MAC != n.MAC {
			l.t.Errorf("%s: %s is %+v", r.Name(), n.Netdev, p)
		}
		if plain := n.Portgroup == "plain"; plain != (p.Policy.StormLimit == 1000) || plain != p.Policy.DHCPGuard {
			l.t.Errorf("%s: %s of portgroup %q has %s", r.Name(), n.Netdev, n.Portgroup, p.Policy)
		}
	}
}

func bridgesOf(taps map[string]string) map[string]string {
	out := make(map[string]string)
	for tap, bridge := range taps {
		out[tap] = renamed(bridge)
	}
	return out
}

// learnMACs notes the guests' addresses behind the taps of a call, if its document tells.
func learnMACs(t *testing.T, macs map[string]vswitch.MAC, r recordedCall) {
	t.Helper()
	if r.Hook != call.QEMU {
		return
	}
	d, err := domain.Parse([]byte(metadataElement.ReplaceAllLiteralString(string(r.Stdin), "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range d.NICs {
		macs[n.Netdev] = n.MAC
	}
}

// What was recorded is none of our business as it stands: nobody is asked anything.
func TestRecordedAsItStands(t *testing.T) {
	for _, version := range recorded.Versions() {
		for _, r := range recorded.Calls(t, version) {
			c := wire.HookCall{Driver: r.Hook, Object: r.Args[0], Operation: r.Args[1], Stdin: r.Stdin}
			if c.Driver == call.LXC || c.Operation == call.Migrate || c.Operation == call.Stopped || c.Operation == call.Release {
				continue // what a domain of others has, the engine is asked: package handover does not
			}
			if a := hook.Serve(context.Background(), nil, c); a.Failed {
				t.Errorf("%s: %s", r.Name(), a.Out)
			}
		}
	}
}
