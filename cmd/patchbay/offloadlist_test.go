package main

import (
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// What a port has of SAs, and a switch of its NIC, is told with how many are in use.
func TestWordsOfSAs(t *testing.T) {
	status := func(sas, held int, why vswitch.Reason, detail string) vswitch.OffloadStatus {
		return vswitch.OffloadStatus{
			OffloadDecision: vswitch.OffloadDecision{
				Feature: vswitch.IPsec, Requested: vswitch.OffloadPrefer, Effective: sas == 0 || held > 0, Amount: 15, Reason: why, Detail: detail,
			},
			Plugin: "ipsec", NIC: "0000:01:00.0", SAs: sas, SAsHeld: held,
		}
	}
	for want, o := range map[string]vswitch.OffloadStatus{
		"ipsec prefer: 0 of 0 SAs by 0000:01:00.0, which may hold 15, plugin ipsec":                                       status(0, 0, "", ""),
		"ipsec prefer: 1 of 1 SA by 0000:01:00.0, which may hold 15, plugin ipsec":                                        status(1, 1, "", ""),
		"ipsec prefer: 15 of 20 SAs by 0000:01:00.0, which may hold 15, plugin ipsec; the port has as many as it may":     status(20, 15, vswitch.LimitReached, ""),
		"ipsec prefer: 2 SAs in software, it needs the software path: packets are routed to pbh-wan, not to eth1":         status(2, 0, vswitch.NeedsSoftwarePath, "packets are routed to pbh-wan, not to eth1"),
		"ipsec prefer: in software, it needs the software path: the container has no VF, and its packets pass the switch": {OffloadDecision: vswitch.OffloadDecision{Feature: vswitch.IPsec, Requested: vswitch.OffloadPrefer, Reason: vswitch.NeedsSoftwarePath, Detail: "the container has no VF, and its packets pass the switch"}},
	} {
		if got := offloadWords(o); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	for want, total := range map[string]vswitch.OffloadTotal{
		"ipsec: 15 SAs used on 0000:01:00.0, of as many as it takes; ports may have 527":                    {Feature: vswitch.IPsec, NIC: "0000:01:00.0", Capacity: vswitch.Unlimited, Used: 15, Allowed: 527},
		"ipsec: 15 of 33 SAs used on 0000:01:00.0; ports may have 512, and 3 are held by others than ports": {Feature: vswitch.IPsec, NIC: "0000:01:00.0", Capacity: 33, Foreign: 3, Used: 15, Allowed: 512},
		"sriov: 2 of 7 VFs used on 0000:01:00.0":                                                            {Feature: vswitch.SRIOV, NIC: "0000:01:00.0", Capacity: 7, Used: 2},
	} {
		if got := totalWords(total); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
