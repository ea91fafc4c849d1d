package kernel

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// ruleHeader is struct fib_rule_hdr, asked for of every family.
type ruleHeader struct{}

func (ruleHeader) Len() int { return unix.SizeofRtMsg }

func (ruleHeader) Serialize() []byte { return make([]byte, unix.SizeofRtMsg) }

func (s *survey) rules() error { return s.list(unix.RTM_GETRULE, ruleHeader{}, s.rule) }

// The attributes of a rule that name a netdev, linux/fib_rules.h.
const (
	fraIifName  = 3
	fraPriority = 6
	fraOifName  = 17
	fraTable    = 15
	// What the kernel says of a rule, not its maker: FIB_RULE_UNRESOLVED,
	// FIB_RULE_IIF_DETACHED, FIB_RULE_OIF_DETACHED.
	ruleStates = 4 | 8 | 16
)

// anyName stands for the netdev's name in a rule.
const anyName = "%"

func (s *survey) rule(b []byte) (plan.Item, bool) {
	all := parts(b, unix.SizeofRtMsg)
	words := fmt.Sprintf("pref %d", number(valueOf(all, fraPriority)))
	names := false
	for n, a := range all {
		word := map[uint16]string{fraIifName: "iif", fraOifName: "oif"}[a.kind]
		if word == "" {
			continue
		}
		name := text(a.value)
		if name == s.dev {
			names, name = true, anyName
			all[n].value = nl.ZeroTerminated(name)
		}
		words += " " + word + " " + name
	}
	if !names {
		return plan.Item{}, false
	}
	words += fmt.Sprintf(" lookup %d", number(valueOf(all, fraTable)))
	if b[0] == unix.AF_INET6 {
		words = "-6 " + words
	}
	flags := nl.NativeEndian().Uint32(b[8:]) &^ ruleStates
	nl.NativeEndian().PutUint32(b[8:], flags)
	m := message(b[:unix.SizeofRtMsg], all)
	return plan.Item{Kind: plan.ItemRule, Key: digest(m), Words: words, Message: m}, true
}
