package kernel

import (
	"fmt"
	"maps"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// setRules is one transaction: it happens whole or not at all. What is removed
// goes whatever value it has by now, what is added takes the place of another
// value.
func (f *Fake) setRules(s plan.SetRules) error {
	if err := f.mayHold(s.Add); err != nil {
		return err
	}
	if err := f.setOwn(s.Add.Own, s.Remove.Own); err != nil {
		return err
	}
	s.Add.Own, s.Remove.Own = nil, nil
	if err := f.setGuards(s); err != nil {
		return err
	}
	if err := f.setACLs(s); err != nil {
		return err
	}
	s.Add, s.Remove = withoutOthers(s.Add), withoutOthers(s.Remove)
	if s.Remove.Base {
		f.rules = plan.Rules{GuardBase: f.rules.GuardBase, Guards: f.rules.Guards, ACLBase: f.rules.ACLBase, ACLs: f.rules.ACLs}
		return nil
	}
	if len(s.Add.Masquerade) > 0 && f.withoutNAT(s.Add) {
		return fmt.Errorf("nftables table inet patchbay is not there: %w", syscall.ENOENT)
	}
	if !f.rules.Base && !s.Add.Base {
		if hasElements(s.Add) {
			return fmt.Errorf("nftables table patchbay is gone: %w", syscall.ENOENT)
		}
		return nil
	}
	next := plan.Rules{
		Base:       true,
		NoNAT:      f.withoutNAT(s.Add),
		Masquerade: changed(f.rules.Masquerade, nil, nil),
		Quiet:      changed(f.rules.Quiet, s.Remove.Quiet, s.Add.Quiet),
		Router:     changed(f.rules.Router, s.Remove.Router, s.Add.Router),
		Host:       changed(f.rules.Host, s.Remove.Host, s.Add.Host),
		Guard:      changed(f.rules.Guard, s.Remove.Guard, s.Add.Guard),
		GuardBase:  f.rules.GuardBase,
		Guards:     f.rules.Guards,
		ACLBase:    f.rules.ACLBase,
		ACLs:       f.rules.ACLs,
		Apart:      changed(f.rules.Apart, s.Remove.Apart, s.Add.Apart),
		Priority:   changed(f.rules.Priority, s.Remove.Priority, s.Add.Priority),
		ApartIn:    changed(f.rules.ApartIn, s.Remove.ApartIn, s.Add.ApartIn),
		Closed:     changed(f.rules.Closed, s.Remove.Closed, s.Add.Closed),
	}
	for dev, gone := range s.Remove.Masquerade { // two sets, one of each family
		have := next.Masquerade[dev]
		next.Masquerade[dev] = plan.Families{IPv4: have.IPv4 && !gone.IPv4, IPv6: have.IPv6 && !gone.IPv6}
	}
	for dev, more := range s.Add.Masquerade {
		have := next.Masquerade[dev]
		next.Masquerade[dev] = plan.Families{IPv4: have.IPv4 || more.IPv4, IPv6: have.IPv6 || more.IPv6}
	}
	maps.DeleteFunc(next.Masquerade, func(_ string, f plan.Families) bool { return f == plan.Families{} })
	f.rules = next
	return nil
}

// setGuards changes the table of guards, which may be there without the others.
func (f *Fake) setGuards(s plan.SetRules) error {
	if len(s.Add.Guards) > 0 && !f.rules.GuardBase && !s.Add.GuardBase {
		return guardsGone(syscall.ENOENT)
	}
	before := f.rules.Guards
	f.rules.GuardBase = f.rules.GuardBase || s.Add.GuardBase
	f.rules.Guards = changed(f.rules.Guards, s.Remove.Guards, s.Add.Guards)
	if s.Remove.GuardBase {
		f.rules.GuardBase, f.rules.Guards = false, nil
	}
	for dev, link := range f.host.links {
		link.counters.Guards = link.counters.Guards.through(before[dev], f.rules.Guards[dev])
	}
	return nil
}

// withoutNAT reports whether there is no table for masquerade once rules are added.
func (f *Fake) withoutNAT(add plan.Rules) bool {
	if add.Base && !add.NoNAT {
		return false
	}
	return f.rules.NoNAT || !f.rules.Base && add.Base
}

// changed is a copy of m without the keys of remove and with all of add.
func changed[K comparable, V any](m, remove, add map[K]V) map[K]V {
	out := make(map[K]V, len(m)+len(add))
	maps.Copy(out, m)
	for key := range remove {
		delete(out, key)
	}
	maps.Copy(out, add)
	return out
}

// mayHold fails for rules that this kernel cannot hold. The tables need all that
// the rules in them need.
func (f *Fake) mayHold(r plan.Rules) error {
	if !f.caps.BridgeRules && (r.Base || len(r.Quiet)+len(r.Router)+len(r.Host)+len(r.Guard)+len(r.Apart)+len(r.Priority)+len(r.ApartIn)+len(r.Closed) > 0) {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "this kernel lacks CONFIG_NF_TABLES_BRIDGE")
	}
	if !f.caps.GuardRules && (r.GuardBase || len(r.Guards) > 0) {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "this kernel lacks CONFIG_NFT_LIMIT")
	}
	if !f.caps.ACLRules && (r.ACLBase || len(r.ACLs) > 0) {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "this kernel lacks CONFIG_NF_TABLES_BRIDGE")
	}
	if !f.caps.NAT && (r.Base && !r.NoNAT || len(r.Masquerade) > 0) {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "this kernel lacks CONFIG_NFT_MASQ")
	}
	return nil
}

func hasElements(r plan.Rules) bool {
	r.Base = false
	return !r.Empty()
}
