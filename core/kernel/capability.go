package kernel

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
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
	err := inNewNetns(func() error {
		c, err := dialRTNL()
		if err != nil {
			return err
		}
		defer c.close()
		if err := found.probeBridge(c); err != nil {
			return err
		}
		found.BridgeRules = tryTable(bridgeTable()) == nil
		found.NAT = tryTable(natTable()) == nil
		return nil
	})
	if err != nil {
		return Capabilities{}, fmt.Errorf("probe the kernel: %w", err)
	}
	return found, nil
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
	found.VLANFiltering = hasPVID
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
// kernel cannot hold one of our tables.
func requireRules() error {
	return inNewNetns(func() error {
		for _, try := range []struct {
			symbol string
			table  ruleTable
		}{
			{"CONFIG_NF_TABLES_BRIDGE", emptyTable(nftables.TableFamilyBridge, nftables.ChainTypeFilter, nil)},
			{"CONFIG_NF_TABLES_INET", emptyTable(nftables.TableFamilyINet, nftables.ChainTypeFilter, nil)},
			{"CONFIG_NFT_NAT", emptyTable(nftables.TableFamilyINet, nftables.ChainTypeNAT, nil)},
			{"CONFIG_NFT_MASQ", emptyTable(nftables.TableFamilyINet, nftables.ChainTypeNAT, &expr.Masq{})},
			{"what the rules on bridges are made of", bridgeTable()},
			{"what masquerading is made of", natTable()},
		} {
			if err := tryTable(try.table); err != nil {
				return missingRules(try.symbol, err)
			}
		}
		return nil
	})
}

// emptyTable is a table with one chain, and in it at most one statement.
func emptyTable(family nftables.TableFamily, kind nftables.ChainType, statement expr.Any) ruleTable {
	t := &nftables.Table{Name: "probe", Family: family}
	c := chain(t, "probe", nftables.ChainHookPostrouting, int32(*nftables.ChainPriorityNATSource))
	c.Type = kind
	rc := ruleChain{Chain: c}
	if statement != nil {
		rc.rules = [][]expr.Any{{statement}}
	}
	return ruleTable{Table: t, chains: []ruleChain{rc}}
}

// tryTable builds a table in the namespace of the calling thread.
func tryTable(t ruleTable) error {
	// Read first: the library waits for ever for the answers of a kernel without
	// nftables.
	if err := withRuleset(func(c *rtnl) error {
		_, err := readRuleset(c, nil, false)
		return err
	}); err != nil {
		return err
	}
	tx, err := newTransaction()
	if err != nil {
		return err
	}
	if err := t.build(tx, nil); err != nil {
		return err
	}
	return tx.Flush()
}
