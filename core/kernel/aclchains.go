package kernel

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// portACL is all that a port has in the table of ACLs. Names are the port's, a slash,
// which no netdev's name has, and what it is for.
type portACL struct {
	sets   []ruleSet
	chains []portChain
	jumps  map[string]string // by map: the chain that it leads the port to
	// mark is of the list: who believes that there is another one finds no chain of its
	// name, and looks.
	mark string
}

// portChain is a chain of a port, with a rule of nftables for each of its rules and those
// that are between them.
type portChain struct {
	name  string
	rules []portRule
}

type portRule struct {
	exprs []expression
	// of is the text of the ACL's rule that the counter in it is of, and direction which way.
	of        string
	direction vswitch.ACLDirection
}

func (c *portChain) add(parts ...[]expression) {
	c.rules = append(c.rules, portRule{exprs: rule(parts...)})
}

// addCounted adds what an ACL's rule does with what it matches.
func (c *portChain) addCounted(r vswitch.ACLRule, d vswitch.ACLDirection, does []expression) {
	c.rules = append(c.rules, portRule{exprs: rule(aclMatch(r, d), []expression{counter()}, does), of: r.String(), direction: d})
}

// portACLOf spells a port's rules.
func portACLOf(dev string, text plan.ACL) (portACL, error) {
	p := portACL{jumps: make(map[string]string)}
	if err := vswitch.ValidateNetdevName(dev); err != nil {
		return p, fmt.Errorf("acl: %w", err)
	}
	rules, err := text.Rules()
	if err != nil {
		return p, fmt.Errorf("acl of %s: %w", dev, err)
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(text))
	p.mark = fmt.Sprintf("-%08x", sum.Sum32())
	for _, d := range []vswitch.ACLDirection{vswitch.ACLOut, vswitch.ACLIn} {
		p.direction(dev, d, rules)
	}
	return p, nil
}

// direction adds the chains for one direction, if there is anything in it to do.
func (p *portACL) direction(dev string, d vswitch.ACLDirection, rules []vswitch.ACLRule) {
	o := vswitch.OrderACL(rules, d)
	answered := answersTo(dev, d, rules)
	if len(o.Meters)+len(o.Ports)+len(o.Extended) == 0 {
		return // what no rule is about passes: answers do anyway
	}
	prefix := dev + "/" + string(d)
	root := portChain{name: prefix + p.mark}
	if denies(o) {
		root.add(jump(chainUnreadable))
	}
	if len(o.Meters) > 0 {
		c := portChain{name: prefix + "/meter"}
		for _, r := range o.Meters {
			c.addCounted(r, d, leave())
		}
		p.chains = append(p.chains, c)
		root.add(jump(c.name))
	}
	if len(o.Ports) > 0 {
		c := portRules(prefix+"/port", o.Ports, d)
		p.chains = append(p.chains, c)
		root.add(jump(c.name))
	}
	if len(o.Extended) > 0 {
		root.add(neighbourDiscovery(), leave())
		if c := laterChain(prefix+"/later", o.Extended, d); len(answered) > 0 || readsPorts(o.Extended) {
			p.chains = append(p.chains, c)
			root.add(protocol(unix.ETH_P_IP), laterFragment4(), continueIn(c.name))
			root.add(protocol(unix.ETH_P_IPV6), laterFragment(), continueIn(c.name))
		}
		if len(answered) > 0 {
			c := answerChain(prefix+"/answers", answered, d)
			p.chains = append(p.chains, c)
			root.add(jump(c.name))
		}
		p.extended(&root, o.Extended, dev, d)
	}
	p.chains = append(p.chains, root)
	p.jumps[aclMap(d)] = root.name
}

// denies reports whether a rule drops what it has to read.
func denies(o vswitch.ACLOrder) bool {
	for _, part := range [][]vswitch.ACLRule{o.Ports, o.Extended} {
		for _, r := range part {
			if r.Action == vswitch.ACLDeny && r.Local.MAC.IsZero() && r.Remote.MAC.IsZero() && !r.Local.AnyMAC && !r.Remote.AnyMAC {
				return true
			}
		}
	}
	return false
}

// portRules return what they allow: the extended rules come after them. How a neighbour's
// MAC address is found is asked of rules about MAC addresses alone, as with ARP.
func portRules(name string, rules []vswitch.ACLRule, d vswitch.ACLDirection) portChain {
	c := portChain{name: name}
	does := func(r vswitch.ACLRule) []expression {
		if r.Action == vswitch.ACLDeny {
			return []expression{verdictOf(verdictDrop)}
		}
		return leave()
	}
	neighbours := leave()
	for _, r := range rules {
		if r.Local.AnyMAC || r.Remote.AnyMAC {
			neighbours = does(r)
			break // a deny goes before an allow
		}
	}
	told := false
	for _, r := range rules {
		if !told && r.Local.MAC.IsZero() && r.Remote.MAC.IsZero() {
			c.add(neighbourDiscovery(), neighbours)
			told = true
		}
		c.addCounted(r, d, does(r))
	}
	return c
}

// readsPorts reports whether a rule looks behind the header of IP.
func readsPorts(rules []vswitch.ACLRule) bool {
	return slices.ContainsFunc(rules, func(r vswitch.ACLRule) bool {
		return r.Stateful || !r.LocalPort.IsZero() || !r.RemotePort.IsZero()
	})
}

// laterChain is for later fragments: they name no port, so that rules with ports are not
// about them, nor is a session known by them. Kernels would take what stands in the place
// of ports for some: nft_payload's fast path does so even in Linux 6.18.
func laterChain(name string, rules []vswitch.ACLRule, d vswitch.ACLDirection) portChain {
	c := portChain{name: name}
	for _, r := range rules {
		switch {
		case !r.LocalPort.IsZero() || !r.RemotePort.IsZero():
		case r.Action == vswitch.ACLDeny:
			c.addCounted(r, d, []expression{verdictOf(verdictDrop)})
		default:
			c.addCounted(r, d, accept())
		}
	}
	return c
}

// extended adds the rules by weight. What a stateful one allows is noted before it passes.
func (p *portACL) extended(root *portChain, rules []vswitch.ACLRule, dev string, d vswitch.ACLDirection) {
	for _, s := range sessionsOf(dev, d, rules) {
		p.sets = append(p.sets, s.sets()...)
		p.chains = append(p.chains, s.noting())
	}
	for _, r := range rules {
		switch {
		case r.Action == vswitch.ACLDeny:
			root.addCounted(r, d, []expression{verdictOf(verdictDrop)})
		case r.Stateful:
			root.addCounted(r, d, continueIn(sessions{dev: dev, by: d, idle: r.Idle()}.chain()))
		default:
			root.addCounted(r, d, accept())
		}
	}
}

// portOf is the port that a chain or a set belongs to; none for those of the table.
func portOf(name string) (dev string, ok bool) {
	dev, _, ok = strings.Cut(name, "/")
	return dev, ok
}
