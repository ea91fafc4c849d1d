package kernel

import "golang.org/x/sys/unix"

// sameChain compares a chain with the kernel's answer.
func sameChain(want ruleChain, answer []byte) bool {
	matches, hooks := 0, 0
	for kind, v := range nftAttributes(answer) {
		if kind == unix.NFTA_CHAIN_HOOK {
			hooks++
		}
		switch {
		case kind == unix.NFTA_CHAIN_TYPE && text(v) == want.kind,
			kind == unix.NFTA_CHAIN_POLICY && bigEndian(v) == verdictAccept,
			kind == unix.NFTA_CHAIN_HOOK && sameAttributes(want.attached(), v):
			matches++
		}
	}
	if want.kind == "" {
		return hooks == 0
	}
	return matches == 3
}

// attachment tells where a chain is attached.
func (c ruleChain) attachment() []attribute {
	list := []attribute{
		numberAttr(unix.NFTA_HOOK_HOOKNUM, c.hook),
		numberAttr(unix.NFTA_HOOK_PRIORITY, uint32(c.priority)),
	}
	if c.device != "" {
		list = append(list, nameAttr(unix.NFTA_HOOK_DEV, c.device))
	}
	return list
}

// attached is attachment as the kernel tells it: a netdev alone, and in a list of one.
func (c ruleChain) attached() []attribute {
	list := c.attachment()
	if c.device != "" {
		const devices, deviceName = 4, 1 // NFTA_HOOK_DEVS, NFTA_DEVICE_NAME
		list = append(list, listAttr(devices, nameAttr(deviceName, c.device)))
	}
	return list
}

// rulesIntact compares all rules of a table, in their order, chain by chain.
func rulesIntact(c *rtnl, t ruleTable) (bool, error) {
	left := make(map[string][][]expression) // rules to come, by chain
	for _, c := range t.chains {
		left[c.name] = c.rules()
	}
	same := true
	r := nftRequest(unix.NFT_MSG_GETRULE, t.family, unix.NLM_F_DUMP, nameAttr(unix.NFTA_RULE_TABLE, t.name))
	err := dumpRules(c, request{NetlinkRequest: r, answer: func(b []byte) {
		key, expressions := parseRule(b)
		chain := key.chain
		if len(left[chain]) == 0 {
			same = false
			return
		}
		same = same && sameRule(left[chain][0], expressions)
		left[chain] = left[chain][1:]
	}})
	for _, rules := range left {
		same = same && len(rules) == 0
	}
	return same, err
}

// sameRule compares a rule with the kernel's spelling of one.
func sameRule(want []expression, expressions []byte) bool {
	n := 0
	for name, data := range expressionParts(expressions) {
		if n >= len(want) || !want[n].same(name, data) {
			return false
		}
		n++
	}
	return n == len(want)
}

// same compares an expression with the kernel's spelling of one. What a counter
// has counted is no part of it.
func (e expression) same(name string, data []byte) bool {
	return name == e.name && (name == exprCounter || sameAttributes(e.attrs, data))
}
