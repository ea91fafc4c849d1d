package plan

// This file plans what is to be done about rules.

// rulesFirst adds rules before the ports they bind exist, so that no frame of a
// new port passes unguarded. Own addresses of ports that go do so at once.
func (d *differ) rulesFirst(want, have Rules) {
	add := want.minus(have)
	remove := have.replacedBy(add)
	add.Own, remove.Own = d.ownChanges(want.Own, have.Own)
	if !add.Empty() || !remove.Empty() {
		d.add(SetRules{Add: add, Remove: remove})
	}
}

// rulesLast removes rules after the ports they bound are gone.
func (d *differ) rulesLast(want, have Rules) {
	remove := have.without(want)
	if want.Base {
		// Whoever attaches a port to another switch may be putting it in: these tables go
		// with the last switch.
		remove.GuardBase, remove.ACLBase = false, false
	}
	if have.Base && !want.Base {
		d.add(SetRules{Remove: Rules{Base: true, GuardBase: remove.GuardBase, ACLBase: remove.ACLBase}})
	} else if !remove.Empty() {
		d.add(SetRules{Remove: remove})
	}
}

// minus is what r has and other has not, or has with another value.
func (r Rules) minus(other Rules) Rules {
	if r.Base && !other.Base {
		return r // no table, no element
	}
	if r.GuardBase && !other.GuardBase {
		other.Guards = nil
	}
	if r.ACLBase && !other.ACLBase {
		other.ACLs = nil
	}
	return Rules{
		GuardBase:  r.GuardBase && !other.GuardBase,
		Masquerade: missing(r.Masquerade, other.Masquerade),
		Quiet:      missing(r.Quiet, other.Quiet),
		Router:     missing(r.Router, other.Router),
		Host:       missing(r.Host, other.Host),
		Guard:      missing(r.Guard, other.Guard),
		Guards:     missing(r.Guards, other.Guards),
		ACLBase:    r.ACLBase && !other.ACLBase,
		ACLs:       missing(r.ACLs, other.ACLs),
		Apart:      missing(r.Apart, other.Apart),
		Priority:   missing(r.Priority, other.Priority),
		ApartIn:    missing(r.ApartIn, other.ApartIn),
		Closed:     missing(r.Closed, other.Closed),
	}
}

// replacedBy is what r holds under keys that added sets anew.
func (r Rules) replacedBy(added Rules) Rules {
	if added.Base {
		return Rules{}
	}
	return Rules{
		Masquerade: common(r.Masquerade, added.Masquerade),
		Router:     common(r.Router, added.Router),
		Guard:      common(r.Guard, added.Guard),
		Guards:     common(r.Guards, added.Guards),
		ACLs:       common(r.ACLs, added.ACLs),
	}
}

// without is what r holds under keys that other lacks.
func (r Rules) without(other Rules) Rules {
	return Rules{
		GuardBase:  r.GuardBase && !other.GuardBase,
		ACLBase:    r.ACLBase && !other.ACLBase,
		Masquerade: absent(r.Masquerade, other.Masquerade),
		Quiet:      absent(r.Quiet, other.Quiet),
		Router:     absent(r.Router, other.Router),
		Host:       absent(r.Host, other.Host),
		Guard:      absent(r.Guard, other.Guard),
		Guards:     absent(r.Guards, other.Guards),
		ACLs:       absent(r.ACLs, other.ACLs),
		Apart:      absent(r.Apart, other.Apart),
		Priority:   absent(r.Priority, other.Priority),
		ApartIn:    absent(r.ApartIn, other.ApartIn),
		Closed:     absent(r.Closed, other.Closed),
	}
}

// missing is what want has and have lacks or holds with another value.
func missing[K, V comparable](want, have map[K]V) map[K]V {
	return filter(want, func(k K, v V) bool { h, ok := have[k]; return !ok || h != v })
}

// common is what m holds under the keys of other.
func common[K, V comparable](m, other map[K]V) map[K]V {
	return filter(m, func(k K, _ V) bool { _, ok := other[k]; return ok })
}

// absent is what m holds under keys that other lacks.
func absent[K, V comparable](m, other map[K]V) map[K]V {
	return filter(m, func(k K, _ V) bool { _, ok := other[k]; return !ok })
}

func filter[K, V comparable](m map[K]V, keep func(K, V) bool) map[K]V {
	var out map[K]V
	for k, v := range m {
		if keep(k, v) {
			if out == nil {
				out = make(map[K]V)
			}
			out[k] = v
		}
	}
	return out
}
