package kernel

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// spelled is a rule as a message has it.
func spelled(rule []expression) (out []byte) {
	for _, e := range rule {
		out = e.attribute().appendTo(out)
	}
	return out
}

// TestNoAlterationPasses alters every attribute of every rule.
func TestNoAlterationPasses(t *testing.T) {
	for _, table := range ruleTables() {
		for _, c := range table.chains {
			for n, rule := range c.rules() {
				name := fmt.Sprintf("%s rule %d", c.name, n)
				if !sameRule(rule, spelled(rule)) {
					t.Errorf("%s is not as it was written", name)
				}
				if sameRule(rule, spelled(rule[1:])) || sameRule(rule, spelled(append(slices.Clone(rule), rule[0]))) {
					t.Errorf("%s passes with an expression less or more", name)
				}
				for i, e := range rule {
					other := slices.Clone(rule)
					for at, altered := range alterations(e.attrs) {
						if other[i].attrs = altered; sameRule(rule, spelled(other)) {
							t.Errorf("%s: %s altered in attribute %d passes", name, e.name, at)
						}
					}
				}
			}
		}
	}
}

// alterations are a list of attributes with one changed, for each of them.
func alterations(attrs []attribute) (out [][]attribute) {
	for i, a := range attrs {
		with := func(other attribute) {
			altered := slices.Clone(attrs)
			altered[i] = other
			out = append(out, altered)
		}
		for _, inner := range alterations(a.list) {
			with(listAttr(a.kind, inner...))
		}
		if a.list == nil {
			value := slices.Clone(a.value)
			value[0] ^= 1
			with(bytesAttr(a.kind, value))
			with(bytesAttr(a.kind, append(slices.Clone(a.value), 1)))
		}
		out = append(out, slices.Delete(slices.Clone(attrs), i, i+1))
	}
	return out
}

func TestSameExpression(t *testing.T) {
	named := func(name string, data ...attribute) attribute { return expression{name, data}.attribute() }
	flags := func(v uint32) attribute { return numberAttr(unix.NFTA_LOOKUP_FLAGS, v) }
	set, register := nameAttr(unix.NFTA_LOOKUP_SET, "quiet"), numberAttr(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1)
	tests := map[string]struct {
		want expression
		have attribute
		same bool
	}{
		"another order":          {lookup("quiet"), named(exprLookup, register, set), true},
		"a default said":         {lookup("quiet"), named(exprLookup, set, register, flags(0)), true},
		"a flag more":            {lookup("quiet"), named(exprLookup, set, register, flags(1)), false},
		"an attribute twice":     {lookup("quiet"), named(exprLookup, set, register, set), false},
		"another name":           {lookup("quiet"), named(exprMeta, set, register), false},
		"a counter that counted": {expression{name: exprCounter}, named(exprCounter, numberAttr(unix.NFTA_COUNTER_PACKETS, 7)), true},
		"masquerade with flags":  {expression{name: exprMasq}, named(exprMasq, numberAttr(unix.NFTA_MASQ_FLAGS, 4)), false},
		"nothing":                {expression{name: exprNotrack}, listAttr(unix.NFTA_LIST_ELEM), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sameRule([]expression{tt.want}, tt.have.Serialize()); got != tt.same {
				t.Errorf("same: %v", got)
			}
		})
	}
}

func TestAttributeLength(t *testing.T) {
	a := listAttr(1, nameAttr(2, "a"), dataAttr(3, []byte{1, 2, 3, 4, 5}), listAttr(4))
	b := a.Serialize()
	if len(b) != a.Len() || len(b)%4 != 0 {
		t.Errorf("%d bytes, announced %d", len(b), a.Len())
	}
	n := 0
	for _, inner := range attributes(b) {
		if !sameAttributes(a.list, inner) {
			t.Errorf("not as it was written: %x", b)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d attributes", n)
	}
}
