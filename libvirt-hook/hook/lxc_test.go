package hook_test

import (
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/recorded"
)

// A container of libvirt's, as recorded: its start names the end that it is to get alone.
func TestContainer(t *testing.T) {
	for _, version := range recorded.Versions() {
		t.Run(version, func(t *testing.T) {
			l := newLab(t)
			before := l.kernel.String()
			for _, r := range recorded.Calls(t, version) {
				if r.Scenario != "lxc" {
					continue
				}
				text := adopted(t, r)
				if r.Args[1] == "start" {
					_, end, _ := strings.Cut(text, "actual='")
					end, _, _ = strings.Cut(end, "'")
					l.kernel.AddNetdev(kernel.Netdev{Name: "vnet8", Index: 9, Peer: 10, Kind: "veth", MTU: 1500, Master: "pb-iso", Ethernet: true, Up: true})
					l.kernel.AddNetdev(kernel.Netdev{Name: end, Index: 10, Peer: 9, Kind: "veth", MTU: 1500, Ethernet: true})
				}
				if r.Args[1] == "stopped" {
					l.kernel.RemoveNetdev("vnet8")
				}
				if says := l.serve(r.Hook, r.Args, text); says != "" {
					t.Errorf("%s: %s", r.Name(), says)
				}
				if ports := l.portsOf(""); r.Args[1] == "start" && (len(ports) != 1 || ports[0].Netdev != "vnet8" || ports[0].VM.Stage != vswitch.VMActive) {
					t.Errorf("started with %+v", ports)
				}
			}
			if now := l.kernel.String(); len(l.portsOf("")) > 0 || now != before {
				t.Errorf("left: %+v\n%s", l.portsOf(""), now)
			}
		})
	}
}
