package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// mirrorTable is the table at one port that copies what its owner sends and receives to
// the netdevs that destinations number. A copy is sent by the destination's netdev itself,
// past the bridge, and meets no other table of these: no port is both. On Linux before
// 6.16 the chains end with the port's netdev.
// Of one whose incoming frames are held back only those that go out: see plan.Mirror.
func mirrorTable(bridge, netdev string, destinations []int, held bool) ruleTable {
	copies := func() (rules [][]expression) {
		for _, d := range destinations {
			rules = append(rules, duplicateTo(d))
		}
		return rules
	}
	incoming := copies
	if held {
		incoming = func() [][]expression { return nil }
	}
	return ruleTable{
		name: plan.MirrorTable(bridge, netdev), family: unix.NFPROTO_NETDEV,
		chains: []ruleChain{
			{name: "ingress", kind: chainFilter, hook: unix.NF_NETDEV_INGRESS, priority: mirrorFirst, device: netdev, rules: incoming},
			{name: "egress", kind: chainFilter, hook: unix.NF_NETDEV_EGRESS, priority: mirrorFirst, device: netdev, rules: copies},
		},
	}
}

// mirrorFirst is before others at a port: what they drop was sent all the same.
const mirrorFirst = -300

// dup to INDEX
func duplicateTo(index int) []expression {
	return []expression{immediate(hostOrder(uint32(index))), {exprDuplicate, []attribute{numberAttr(duplicateDevice, unix.NFT_REG_1)}}}
}

// duplicateDevice is NFTA_DUP_SREG_DEV of linux/netfilter/nf_tables.h.
const duplicateDevice = 2

// duplicatesTo reads which netdev a rule of duplicateTo is about.
func duplicatesTo(rule []byte) (index int, ok bool) {
	for _, expr := range attributes(rule) {
		name, data := exprParts(expr)
		if name != exprImmediate {
			continue
		}
		for kind, v := range attributes(data) {
			if kind != unix.NFTA_IMMEDIATE_DATA {
				continue
			}
			for kind, value := range attributes(v) {
				if kind == unix.NFTA_DATA_VALUE && len(value) == 4 {
					index = int(binary.NativeEndian.Uint32(value))
				}
			}
		}
	}
	return index, index != 0 && sameRule(duplicateTo(index), rule)
}
