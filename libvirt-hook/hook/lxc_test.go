package hook_test

import (
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
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
				l.setPair(r, text)
				if says := l.serve(r.Hook, r.Args, text); says != "" {
					t.Errorf("%s: %s", r.Name(), says)
				}
				if ports := l.portsOf(""); r.Args[1] == "start" && (len(ports) != 1 || r.Taps[ports[0].Netdev] == "" || ports[0].VM.Stage != vswitch.VMActive) {
					t.Errorf("started with %+v", ports)
				}
			}
			if now := l.kernel.String(); len(l.portsOf("")) > 0 || now != before {
				t.Errorf("left: %+v\n%s", l.portsOf(""), now)
			}
		})
	}
}

// setPair makes the pair of a container that is about to start, or takes it away.
func (l *lab) setPair(r recordedCall, text string) {
	l.t.Helper()
	if r.Hook != call.LXC || r.Args[1] != call.Start {
		l.setTaps(bridgesOf(r.Taps), nil)
		return
	}
	l.setTaps(nil, nil)
	_, end, _ := strings.Cut(text, "actual='")
	end, _, _ = strings.Cut(end, "'")
	for host, bridge := range bridgesOf(r.Taps) {
		l.kernel.AddNetdev(kernel.Netdev{Name: host, Index: 9, Peer: 10, Kind: "veth", MTU: 1500, Master: bridge, Ethernet: true, Up: true})
	}
	l.kernel.AddNetdev(kernel.Netdev{Name: end, Index: 10, Peer: 9, Kind: "veth", MTU: 1500, Ethernet: true})
}
