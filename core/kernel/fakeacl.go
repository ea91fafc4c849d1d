package kernel

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// setACLs changes the table of ACLs, which may be there without the others.
func (f *Fake) setACLs(s plan.SetRules) error {
	if _, err := aclChangeOf(s); err != nil {
		return err
	}
	if len(s.Add.ACLs) > 0 && !f.rules.ACLBase && !s.Add.ACLBase {
		return aclsGone(syscall.ENOENT)
	}
	f.rules.ACLBase = f.rules.ACLBase || s.Add.ACLBase
	f.rules.ACLs = changed(f.rules.ACLs, s.Remove.ACLs, s.Add.ACLs)
	if s.Remove.ACLBase {
		f.rules.ACLBase, f.rules.ACLs = false, nil
	}
	return nil
}

// observeACLs tells of lists that differ no more than that.
func (f *Fake) observeACLs(scope plan.Rules, seen *plan.Rules) {
	if !f.rules.ACLBase {
		return
	}
	seen.ACLBase, seen.ACLs = scope.ACLBase, named(f.rules.ACLs, scope.ACLs)
	for dev, have := range seen.ACLs {
		if have != scope.ACLs[dev] {
			seen.ACLs[dev] = plan.OtherACL
		}
	}
}

func (f *Fake) drawACLs(b *strings.Builder) {
	if !f.rules.ACLBase {
		return
	}
	b.WriteString("nft table patchbay_acl\n")
	for _, dev := range slices.Sorted(maps.Keys(f.rules.ACLs)) {
		for rule := range strings.SplitSeq(string(f.rules.ACLs[dev]), "\n") {
			line(b, true, "%s { %s }", dev, rule)
		}
	}
}

// ACLHits counts nothing: no packet passes here.
func (f *Fake) ACLHits(ctx context.Context, dev string, acl plan.ACL) (map[string][]ACLHits, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return nil, err
	}
	if f.rules.ACLs[dev] != acl {
		return nil, nil
	}
	rules, err := acl.Rules()
	if err != nil {
		return nil, fmt.Errorf("acl of %s: %w", dev, err)
	}
	hits := make(map[string][]ACLHits)
	for _, r := range rules {
		for _, d := range []vswitch.ACLDirection{vswitch.ACLOut, vswitch.ACLIn} {
			if r.Is(d) {
				hits[r.String()] = append(hits[r.String()], ACLHits{Direction: d})
			}
		}
	}
	return hits, nil
}
