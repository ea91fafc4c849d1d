package plan

import (
	"fmt"
	"slices"
)

// This file has NICs stand by beside a bond, until one of its members fails.

// HoldMember takes a NIC out of whatever it is in and brings it up.
type HoldMember struct {
	Bond   string
	Member Member
}

func (HoldMember) step() {}

func (s HoldMember) String() string { return fmt.Sprintf("ip link set %s nomaster up", s.Member.Name) }

func (b Bond) holds(nic string) bool {
	return slices.ContainsFunc(b.Held, func(m Member) bool { return m.Name == nic })
}

// holds has NICs stand by when everybody has left them, and another member hears what is
// for all. Those that stand by no more and were down before they did are so again.
func (d *differ) holds() {
	for _, name := range sorted(d.desired.Bonds) {
		for _, m := range d.desired.Bonds[name].Held {
			if !d.observed.Bonds[name].holds(m.Name) {
				d.add(HoldMember{Bond: name, Member: m})
			}
		}
	}
	for _, name := range sorted(d.observed.Bonds) {
		for _, m := range d.observed.Bonds[name].Held {
			_, port := d.desired.Ports[m.Name]
			if !m.Released.Up && !port && !d.teamed(m.Name) {
				d.add(TakeDown{Name: m.Name})
			}
		}
	}
}

// teamed reports that a NIC is to be in a bond, or beside it.
func (d *differ) teamed(nic string) bool {
	for _, b := range d.desired.Bonds {
		if b.at(nic) >= 0 || b.holds(nic) {
			return true
		}
	}
	return false
}

// Silence is what keeps a NIC quiet that is up and no switch's: it answers nobody who asks
// for the host's addresses, and has none of its own.
func Silence() map[string]string { return map[string]string{disableIPv6: "1", "ipv4/arp_ignore": "8"} }

const disableIPv6 = "ipv6/disable_ipv6"

// opens lets NICs have IPv6 again, before the host comes to them.
func (d *differ) opens() {
	for _, netdev := range sorted(d.desired.Hosts) {
		have := d.observed.Hosts[netdev]
		if d.desired.Hosts[netdev].Settings[disableIPv6] != "0" || have.Settings[disableIPv6] != "1" {
			continue
		}
		open := map[string]string{disableIPv6: "0"}
		d.add(SetSettings{Netdev: netdev, Settings: open})
		have.Settings = merge(open, have.Settings)
		d.observed.Hosts = merge(map[string]Addressing{netdev: have}, d.observed.Hosts)
	}
}
