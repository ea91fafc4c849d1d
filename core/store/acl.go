package store

import (
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// acl packs a port's rules as the text of each in a line.
func (p *packer) acl(rules []vswitch.ACLRule) {
	lines := make([]string, 0, len(rules))
	for _, r := range rules {
		lines = append(lines, r.String())
	}
	p.text(strings.Join(lines, "\n"))
}

func (u *unpacker) acl() (rules []vswitch.ACLRule) {
	text := u.text()
	if text == "" {
		return nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		r, err := vswitch.ParseACLRule(line)
		if err != nil {
			u.bad = true
			return nil
		}
		rules = append(rules, r)
	}
	return rules
}
