package kernel

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file reads of others' nftables rules what may keep guests from talking. The
// rules of iptables-nft are among them.

func familyName(family uint8) string {
	switch family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_INET:
		return "inet"
	case unix.NFPROTO_BRIDGE:
		return "bridge"
	case unix.NFPROTO_ARP:
		return "arp"
	}
	return ""
}

// forwardChains lists the base chains at the hook "forward" that are not ours, in the
// host's namespace. A kernel without nftables has none.
func (l *Linux) forwardChains() (found []ForwardChain, err error) {
	err = l.ruleset(func(c *rtnl) error {
		found, err = readForwardChains(c)
		return err
	})
	if errors.Is(err, vswitch.CapabilityMissing) {
		return nil, nil
	}
	return found, err
}

func readForwardChains(c *rtnl) ([]ForwardChain, error) {
	var found []ForwardChain
	at := make(map[chainKey]int)
	r := nftRequest(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC, unix.NLM_F_DUMP)
	err := dumpRules(c, request{NetlinkRequest: r, absent: true, answer: func(b []byte) {
		key, f, forward := parseForwardChain(b)
		if forward && !ownTable(key) {
			at[key] = len(found)
			found = append(found, f)
		}
	}})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	r = nftRequest(unix.NFT_MSG_GETRULE, unix.NFPROTO_UNSPEC, unix.NLM_F_DUMP)
	last := make(map[int]bool)
	err = dumpRules(c, request{NetlinkRequest: r, absent: true, answer: func(b []byte) {
		key, expressions := parseRule(b)
		if i, is := at[key]; is {
			last[i] = refusesAll(expressions)
		}
		for i, f := range found {
			if familyName(key.family) == f.Family && key.table == f.Table {
				found[i].Mentions = appendMentions(f.Mentions, expressions)
			}
		}
	}})
	for i := range found {
		found[i].Closed = found[i].Closed || last[i]
	}
	return found, err
}

func ownTable(key chainKey) bool {
	return slices.ContainsFunc(ruleTables(), func(t ruleTable) bool { return t.family == key.family && t.name == key.table })
}

// parseForwardChain reads an NFT_MSG_NEWCHAIN message.
func parseForwardChain(b []byte) (key chainKey, f ForwardChain, forward bool) {
	key.family = nftFamily(b)
	for kind, v := range nftAttributes(b) {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			key.table = text(v)
		case unix.NFTA_CHAIN_NAME:
			key.chain = text(v)
		case unix.NFTA_CHAIN_POLICY:
			f.Closed = bigEndian(v) == nfDrop
		case unix.NFTA_CHAIN_HOOK:
			for kind, h := range attributes(v) {
				const hookForward = 2 // NF_INET_FORWARD, NF_BR_FORWARD and NF_ARP_FORWARD alike
				forward = forward || kind == unix.NFTA_HOOK_HOOKNUM && bigEndian(h) == hookForward
			}
		}
	}
	f.Family, f.Table, f.Chain = familyName(key.family), key.table, key.chain
	return key, f, forward && f.Family != ""
}

const nfDrop = 0 // NF_DROP in linux/netfilter.h

// refusesAll reports that a rule's expressions are a drop or a reject and, at the
// most, a counter or a log entry: nothing that looks at the packet.
func refusesAll(expressions []byte) (refuses bool) {
	for name, data := range expressionParts(expressions) {
		switch name {
		case "counter", "log":
		case "reject":
			refuses = true
		case "immediate":
			if !isDrop(data) {
				return false
			}
			refuses = true
		default:
			return false
		}
	}
	return refuses
}

func isDrop(immediate []byte) bool {
	for kind, v := range attributes(immediate) {
		if kind != unix.NFTA_IMMEDIATE_DATA {
			continue
		}
		for kind, verdict := range attributes(v) {
			if kind != unix.NFTA_DATA_VERDICT {
				continue
			}
			for kind, code := range attributes(verdict) {
				if kind == unix.NFTA_VERDICT_CODE {
					return bigEndian(code) == nfDrop
				}
			}
		}
	}
	return false
}

// appendMentions adds the names of our netdevs that a rule compares with. A value
// that does not end with a zero byte is the beginning of names: "pb*".
func appendMentions(list []string, expressions []byte) []string {
	for name, data := range expressionParts(expressions) {
		if name != "cmp" {
			continue
		}
		for kind, v := range attributes(data) {
			if kind != unix.NFTA_CMP_DATA {
				continue
			}
			for kind, value := range attributes(v) {
				netdev, exact := bytes.CutSuffix(value, []byte{0})
				word := text(netdev)
				if !exact {
					word += "*"
				}
				if kind == unix.NFTA_DATA_VALUE && strings.HasPrefix(word, "pb") && !slices.Contains(list, word) {
					list = append(list, word)
				}
			}
		}
	}
	return list
}
