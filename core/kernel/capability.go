package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// probeCapabilities tries what this kernel can do, in a network namespace of its
// own, and leaves nothing behind.
func probeCapabilities(ctx context.Context) (Capabilities, error) {
	if err := ctx.Err(); err != nil {
		return Capabilities{}, err
	}
	var found Capabilities
	host, err := dialRTNL()
	if err != nil {
		return Capabilities{}, err
	}
	defer host.close()
	spare := host.spares()
	err = inNewNetns(func() error {
		c, err := dialRTNL()
		if err != nil {
			return err
		}
		defer c.close()
		return found.probe(ctx, c)
	})
	if err == nil {
		_ = host.dropSpares(spare) // one that stays is in nobody's way
	}
	if err != nil {
		return Capabilities{}, fmt.Errorf("probe the kernel: %w", err)
	}
	return found, nil
}

// probe finds what a kernel can do, in a namespace that is for nothing else.
func (found *Capabilities) probe(ctx context.Context, c *rtnl) error {
	if err := found.probeBridge(c); err != nil {
		return err
	}
	found.PriorityReset = c.resetsPriority(ctx) == nil
	found.Bonding = c.bonds()
	found.BridgeRules = tryTable(bridgeTable()) == nil
	found.GuardRules = tryTable(guardTable()) == nil
	found.ACLRules = tryACLs() == nil
	found.Limits = tryLimits() == nil
	found.Shares = tryShares() == nil
	found.Mirroring = try(plan.MakeMirror{Bridge: "probe", Netdev: "port", Destinations: []string{"peer"}}) == nil
	found.NAT = tryTable(natTable()) == nil
	found.MemberRules = tryTable(spreadTable(probeSpread())) == nil
	return nil
}

// probeBridge makes a bridge with one port. Kernels ignore port flags that they
// do not know, so what was set is read back.
func (found *Capabilities) probeBridge(c *rtnl) error {
	if err := c.send(newBridge(plan.Bridge{Name: "probe", MAC: vswitch.DerivedMAC("probe", "bridge"), MTU: vswitch.DefaultMTU})); err != nil {
		return missingNetdev("CONFIG_BRIDGE", err)
	}
	bridge, hasPVID, err := c.bridgeWithPVID("probe")
	if err != nil {
		return err
	}
	if hasPVID { // and its VLANs can be read
		_, err := c.vlans(bridge)
		found.VLANFiltering = err == nil
	}
	port := plan.Port{Name: "port", MAC: vswitch.DerivedMAC("probe", "port"), MTU: vswitch.DefaultMTU, Bridge: "probe", Locked: true}
	port.Endpoint = &plan.Endpoint{Name: "peer", MAC: vswitch.DerivedMAC("probe", "peer"), MTU: vswitch.DefaultMTU}
	if err := c.send(newVeth(port, bridge, -1)); err != nil {
		return missingNetdev("CONFIG_VETH", err)
	}
	if err := c.send(setPort(port, true)...); err != nil {
		return err
	}
	seen, err := c.link(port.Name)
	found.PortLocked = seen.port.locked
	return err
}

// bonds tries whether there is bonding. Asking for one loads the module.
func (c *rtnl) bonds() bool {
	b := plan.Bond{Name: "bond", MAC: vswitch.DerivedMAC("probe", "bond"), MTU: vswitch.DefaultMTU}
	b.Options = plan.BondOptions{Mode: "active-backup", Monitor: vswitch.DefaultMonitor}
	return c.send(newBond(b)) == nil
}

// tryLimits tries whether the port that probeBridge has made can be limited.
func tryLimits() error {
	s := plan.Shape{Rate: 1 << 20, Burst: 1 << 16, Queue: 1 << 17}
	return try(plan.SetLimits{Port: "port", Limits: plan.Limits{To: s, From: s, Via: "via", Alias: vswitch.Alias("limit", "probe", "")}, Group: vswitch.GroupMark})
}

// try carries out a step in the namespace of the calling thread.
func try(step plan.Step) error {
	l := NewLinux()
	return errors.Join(l.Apply(context.Background(), []plan.Step{step}), l.Close())
}

// tryShares tries whether what leaves the port that probeBridge has made can be shared.
func tryShares() error {
	s := plan.Sharing{Ports: map[vswitch.MAC]uint64{vswitch.DerivedMAC("probe", "peer"): 1}, Default: 1}
	return try(plan.MakeShares{Netdev: "peer", Tree: *s.On(1e9, nil)})
}

func (c *rtnl) send(messages ...*nl.NetlinkRequest) error {
	requests := make([]request, 0, len(messages))
	for _, m := range messages {
		requests = append(requests, request{NetlinkRequest: m})
	}
	return c.do(requests)
}

// bridgeWithPVID returns a bridge's index and whether it shows a default PVID,
// which only a kernel with VLAN filtering does.
func (c *rtnl) bridgeWithPVID(name string) (index int, hasPVID bool, err error) {
	err = c.do([]request{{NetlinkRequest: getLink(name), answer: func(b []byte) {
		index = parseLink(b).index
		for kind, info := range attributes(b[min(len(b), unix.SizeofIfInfomsg):]) {
			if kind != unix.IFLA_LINKINFO {
				continue
			}
			for kind, data := range attributes(info) {
				if kind != nl.IFLA_INFO_DATA {
					continue
				}
				for kind := range attributes(data) {
					hasPVID = hasPVID || kind == nl.IFLA_BR_VLAN_DEFAULT_PVID
				}
			}
		}
	}}})
	return index, hasPVID, err
}

// missingNetdev names the driver that a kernel lacks.
func missingNetdev(symbol string, err error) error {
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return &vswitch.Error{
		Kind: vswitch.CapabilityMissing, Err: fmt.Errorf("this kernel lacks %s: %w", symbol, err),
		Hint: "load the module or boot a kernel that has it",
	}
}

// requireRules fails with vswitch.CapabilityMissing, naming the symbol, if this
// kernel cannot hold one of the tables.
func requireRules(tables []ruleTable) error {
	return inNewNetns(func() error {
		for _, try := range []struct {
			symbol string
			table  ruleTable
		}{
			{"CONFIG_NF_TABLES_BRIDGE", probeTable(unix.NFPROTO_BRIDGE, chainFilter)},
			{"CONFIG_NF_TABLES_INET", probeTable(unix.NFPROTO_INET, chainFilter)},
			{"CONFIG_NFT_NAT", probeTable(unix.NFPROTO_INET, chainNAT)},
			{"CONFIG_NFT_MASQ", probeTable(unix.NFPROTO_INET, chainNAT, expression{name: exprMasq})},
			{"what the rules on bridges are made of", bridgeTable()},
			{"what masquerading is made of", natTable()},
		} {
			if !slices.ContainsFunc(tables, func(t ruleTable) bool { return t.family == try.table.family }) {
				continue
			}
			if err := tryTable(try.table); err != nil {
				return missingRules(try.symbol, err)
			}
		}
		return nil
	})
}

// probeSpread is on netdevs that probeBridge has made.
func probeSpread() plan.Spread { return plan.Spread{Team: "port", Members: []string{"peer"}} }

// requireSpread fails with vswitch.CapabilityMissing if this kernel cannot hold the table
// of an active/active team.
func requireSpread() error {
	caps, err := probeCapabilities(context.Background())
	if err == nil && !caps.MemberRules {
		err = missingRules("CONFIG_NF_TABLES_NETDEV, CONFIG_NFT_FWD_NETDEV or CONFIG_NETFILTER_EGRESS", unix.EOPNOTSUPP)
	}
	return err
}

// probeTable is a table with one chain, and in it at most one rule.
func probeTable(family uint8, kind string, rule ...expression) ruleTable {
	rules := func() [][]expression {
		if len(rule) == 0 {
			return nil
		}
		return [][]expression{rule}
	}
	return ruleTable{
		name: "probe", family: family,
		chains: []ruleChain{{name: "probe", kind: kind, hook: unix.NF_INET_POST_ROUTING, priority: srcNAT, rules: rules}},
	}
}

// tryTable builds a table in the namespace of the calling thread.
func tryTable(t ruleTable) error {
	c, err := dialNetfilter()
	if err != nil {
		return err
	}
	defer c.close()
	var tx transaction
	t.build(&tx, nil)
	return tx.send(c)
}

// tryACLs builds the table of ACLs in the namespace of the calling thread, with a port
// that has rules of every kind.
func tryACLs() error {
	rule := vswitch.ACLRule{Direction: vswitch.ACLIn, Action: vswitch.ACLAllow, Protocol: vswitch.ProtocolTCP, Weight: 1, Stateful: true}
	rule.LocalPort = vswitch.ACLPorts{First: 1, Last: 2}
	answer := rule
	answer.Direction, answer.LocalPort = vswitch.ACLOut, vswitch.ACLPorts{}
	p, err := portACLOf("probe", plan.ACLOf([]vswitch.ACLRule{rule, answer}))
	if err != nil {
		return err
	}
	c, err := dialNetfilter()
	if err != nil {
		return err
	}
	defer c.close()
	var tx transaction
	t := aclTable()
	t.build(&tx, nil)
	t.changePort(&tx, "probe", aclNames{}, p)
	return tx.send(c)
}

// requireACLs fails with vswitch.CapabilityMissing if this kernel cannot hold the table of
// ACLs.
func requireACLs() error {
	return inNewNetns(func() error {
		if err := tryTable(probeTable(unix.NFPROTO_BRIDGE, chainFilter)); err != nil {
			return missingRules("CONFIG_NF_TABLES_BRIDGE", err)
		}
		if err := tryACLs(); err != nil {
			return missingRules("what rules of ACLs are made of (Linux 5.7 or later)", err)
		}
		return nil
	})
}
