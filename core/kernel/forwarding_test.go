package kernel

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
)

func forwarding(t *testing.T, ns *os.File) (seen plan.Families) {
	t.Helper()
	within(t, ns, func() (err error) {
		seen, err = observeForwarding()
		return err
	})
	return seen
}

func TestForwarding(t *testing.T) {
	tests := map[string]plan.Families{
		"neither": {}, "IPv4": {IPv4: true}, "IPv6": {IPv6: true}, "both": {IPv4: true, IPv6: true},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			ns := newNS(t)
			sh(t, ns, "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")
			for range 2 {
				within(t, ns, func() error { return setForwarding(want) })
				if diff := cmp.Diff(want, forwarding(t, ns)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			within(t, ns, func() error { return setForwarding(plan.Families{}) })
			if diff := cmp.Diff(want, forwarding(t, ns)); diff != "" {
				t.Errorf("was switched off (-want +got):\n%s", diff)
			}
		})
	}
}

func TestForwardingKeepsRouterAdvertisements(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, `sysctl -qw net.ipv6.conf.all.forwarding=0
		for dev in nic deaf pbh-lab port; do ip link add $dev type veth peer name x$dev; done
		ip link add br0 type bridge; ip link set port master br0
		ip link set pbh-lab alias patchbay:host
		sysctl -qw net.ipv6.conf.deaf.accept_ra=0`)
	within(t, ns, func() error { return setForwarding(plan.Families{IPv4: true}) })
	accept := "for dev in nic deaf pbh-lab port; do echo $dev $(cat /proc/sys/net/ipv6/conf/$dev/accept_ra); done"
	if diff := cmp.Diff("nic 1\ndeaf 0\npbh-lab 1\nport 1\n", sh(t, ns, accept)); diff != "" {
		t.Errorf("with IPv4 alone (-want +got):\n%s", diff)
	}
	within(t, ns, func() error { return setForwarding(plan.Families{IPv6: true}) })
	if diff := cmp.Diff("nic 2\ndeaf 0\npbh-lab 1\nport 1\n", sh(t, ns, accept)); diff != "" {
		t.Errorf("with IPv6 (-want +got):\n%s", diff)
	}
}
