package plan

import (
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ACL is a port's list of rules, as its text: a rule a line. It is a text so that two can
// be compared.
type ACL string

// OtherACL stands for rules that are there and not those that were looked for.
const OtherACL ACL = "?"

// ACLOf is the text of rules, the same for lists that do the same; "" for none.
func ACLOf(rules []vswitch.ACLRule) ACL {
	var lines []string
	for _, r := range vswitch.SortACL(rules) {
		lines = append(lines, r.String())
	}
	return ACL(strings.Join(lines, "\n"))
}

// Rules reads the text.
func (a ACL) Rules() ([]vswitch.ACLRule, error) {
	if a == "" {
		return nil, nil
	}
	var rules []vswitch.ACLRule
	for line := range strings.SplitSeq(string(a), "\n") {
		r, err := vswitch.ParseACLRule(line)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// words say what of a port's list comes or goes: its chains, each rule by its text, since
// one may be several of `nft`, and what leads there.
func (a ACL) words(verb, dev string) (lines []string) {
	rules, err := a.Rules()
	if err != nil {
		return []string{fmt.Sprintf("%s chains bridge patchbay_acl %s", verb, dev)}
	}
	for _, d := range []vswitch.ACLDirection{vswitch.ACLIn, vswitch.ACLOut} {
		o := vswitch.OrderACL(rules, d)
		if len(o.Meters)+len(o.Ports)+len(o.Extended) == 0 {
			continue
		}
		if verb == "add" {
			lines = append(lines, fmt.Sprintf("add chain bridge patchbay_acl %s/%s", dev, d))
			for _, part := range [][]vswitch.ACLRule{o.Meters, o.Ports, o.Extended} {
				for _, r := range part {
					lines = append(lines, fmt.Sprintf("add rule bridge patchbay_acl %s/%s # %s", dev, d, r))
				}
			}
		}
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay_acl %s { %s : jump %s/%s }", verb, d, dev, dev, d))
		if verb == "delete" {
			lines = append(lines, fmt.Sprintf("delete chain bridge patchbay_acl %s/%s", dev, d))
		}
	}
	return lines
}
