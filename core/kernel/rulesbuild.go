package kernel

import (
	"slices"

	"golang.org/x/sys/unix"
)

// This file spells changes of a table as messages of a transaction.

// build replaces a table, or what is left of it, by one that is whole.
func (t ruleTable) build(tx *transaction, want elements) {
	t.add(tx) // so that there is one to delete
	t.remove(tx)
	t.add(tx)
	for i, set := range t.sets {
		tx.add(unix.NFT_MSG_NEWSET, t.family, unix.NLM_F_CREATE, set.attributes(t.name, uint32(i+1))...)
		t.addElements(tx, set, set.constantElements())
	}
	for _, c := range t.chains {
		t.addChain(tx, c)
	}
	for _, c := range t.chains {
		for _, exprs := range c.rules() {
			t.addRule(tx, c, exprs)
		}
	}
	t.change(tx, nil, want)
}

// change brings the sets of a table from have to want.
func (t ruleTable) change(tx *transaction, have, want elements) {
	for _, set := range t.sets {
		t.removeElements(tx, set, have.minus(want, set.name))
		t.addElements(tx, set, want.minus(have, set.name))
	}
}

func (t ruleTable) add(tx *transaction) {
	tx.add(unix.NFT_MSG_NEWTABLE, t.family, unix.NLM_F_CREATE,
		nameAttr(unix.NFTA_TABLE_NAME, t.name), numberAttr(unix.NFTA_TABLE_FLAGS, 0))
}

func (t ruleTable) remove(tx *transaction) {
	tx.add(unix.NFT_MSG_DELTABLE, t.family, 0, nameAttr(unix.NFTA_TABLE_NAME, t.name))
}

func (t ruleTable) addChain(tx *transaction, c ruleChain) {
	attrs := []attribute{nameAttr(unix.NFTA_CHAIN_TABLE, t.name), nameAttr(unix.NFTA_CHAIN_NAME, c.name)}
	if c.kind != "" {
		attrs = append(attrs,
			listAttr(unix.NFTA_CHAIN_HOOK, c.attachment()...),
			numberAttr(unix.NFTA_CHAIN_POLICY, verdictAccept),
			nameAttr(unix.NFTA_CHAIN_TYPE, c.kind))
	}
	tx.add(unix.NFT_MSG_NEWCHAIN, t.family, unix.NLM_F_CREATE, attrs...)
}

func (t ruleTable) addRule(tx *transaction, c ruleChain, exprs []expression, more ...attribute) {
	list := make([]attribute, 0, len(exprs))
	for _, e := range exprs {
		list = append(list, e.attribute())
	}
	tx.add(unix.NFT_MSG_NEWRULE, t.family, unix.NLM_F_CREATE|unix.NLM_F_APPEND, append([]attribute{
		nameAttr(unix.NFTA_RULE_TABLE, t.name),
		nameAttr(unix.NFTA_RULE_CHAIN, c.name),
		listAttr(unix.NFTA_RULE_EXPRESSIONS, list...),
	}, more...)...)
}

func (t ruleTable) addElements(tx *transaction, set ruleSet, all []element) {
	for part := range slices.Chunk(all, set.together()) {
		tx.add(unix.NFT_MSG_NEWSETELEM, t.family, unix.NLM_F_CREATE, t.elementList(set, part)...)
	}
}

func (t ruleTable) removeElements(tx *transaction, set ruleSet, all []element) {
	for part := range slices.Chunk(all, set.together()) {
		tx.add(unix.NFT_MSG_DELSETELEM, t.family, 0, t.elementList(set, part)...)
	}
}

// together is how many elements go into one message: their list may have 64 KB.
func (s ruleSet) together() int {
	const room = 60000
	one := element{key: string(make([]byte, s.key.size())), value: string(make([]byte, s.valueSize()))}
	return room / s.element(one).Len()
}

func (t ruleTable) elementList(set ruleSet, part []element) []attribute {
	list := make([]attribute, 0, len(part))
	for _, e := range part {
		list = append(list, set.element(e))
	}
	return []attribute{
		nameAttr(unix.NFTA_SET_ELEM_LIST_TABLE, t.name),
		nameAttr(unix.NFTA_SET_ELEM_LIST_SET, set.name),
		listAttr(unix.NFTA_SET_ELEM_LIST_ELEMENTS, list...),
	}
}

func (s ruleSet) constantElements() (list []element) {
	for _, key := range s.constant {
		list = append(list, element{key: key})
	}
	return list
}
