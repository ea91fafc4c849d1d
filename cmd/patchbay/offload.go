package main

import (
	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// offloadFlags are the flags of what the uplink does for a port. The function that it
// returns tells what of it was given.
func offloadFlags(cmd *cobra.Command) func() vswitch.OffloadChange {
	var vmq, sriov, ipsec vswitch.OffloadMode
	var vmqWeight, sriovWeight, queuePairs, maxSAs int
	var moderation vswitch.Moderation
	var failover bool
	f := cmd.Flags()
	f.StringVar((*string)(&vmq), "vmq", "prefer", "whether it wants a hardware queue: a `mode`, require, prefer or off")
	f.IntVar(&vmqWeight, "vmq-weight", vswitch.DefaultWeight, "its `weight` where queues are fewer than ports, 1-100; 0 is off")
	f.StringVar((*string)(&sriov), "sriov", "off", "whether it wants a VF: a `mode`, require, prefer or off")
	f.IntVar(&sriovWeight, "sriov-weight", vswitch.DefaultWeight, "its `weight` where VFs are fewer than ports, 1-100; 0 is off")
	f.IntVar(&queuePairs, "sriov-queue-pairs", vswitch.DefaultQueuePairs, "`pairs` of queues that the VF should have")
	f.StringVar((*string)(&moderation), "sriov-moderation", string(vswitch.ModerationDefault), "how the VF gathers interrupts: default, adaptive, off, low, medium or high")
	f.BoolVar(&failover, "sriov-failover", false, "give new containers a standby path beside the VF, so that they go on where it is lost")
	f.StringVar((*string)(&ipsec), "ipsec", "prefer", "whether the NIC encrypts for it: a `mode`, require, prefer or off")
	f.IntVar(&maxSAs, "ipsec-max-sas", vswitch.DefaultSAs, "how many `SAs` of the port the NIC may hold; 0 is off")
	for _, flag := range []string{"vmq", "sriov", "ipsec"} {
		complete(cmd, flag, words(vswitch.OffloadModes())...)
	}
	complete(cmd, "sriov-moderation", words(vswitch.Moderations())...)
	return func() (c vswitch.OffloadChange) {
		given(cmd, "vmq", &c.VMQ.Mode, &vmq)
		given(cmd, "vmq-weight", &c.VMQ.Weight, &vmqWeight)
		given(cmd, "sriov", &c.SRIOV.Mode, &sriov)
		given(cmd, "sriov-weight", &c.SRIOV.Weight, &sriovWeight)
		given(cmd, "sriov-queue-pairs", &c.SRIOV.QueuePairs, &queuePairs)
		given(cmd, "sriov-moderation", &c.SRIOV.Moderation, &moderation)
		given(cmd, "sriov-failover", &c.SRIOV.Failover, &failover)
		given(cmd, "ipsec", &c.IPsec.Mode, &ipsec)
		given(cmd, "ipsec-max-sas", &c.IPsec.MaxSAs, &maxSAs)
		return c
	}
}

func sriovWord(on bool) string {
	if on {
		return "on: ports may have virtual functions of the uplink"
	}
	return "off"
}
