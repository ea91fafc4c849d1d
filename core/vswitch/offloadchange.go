package vswitch

// OffloadChange is what of an OffloadPolicy is asked for, under the same keys; nil fields
// stay as they are. A weight alone turns a feature on or, with 0, off, and a mode alone
// takes away a number that contradicts it: what is asked for last is meant.
type OffloadChange struct {
	VMQ   VMQChange   `json:"vmq,omitzero"`
	SRIOV SRIOVChange `json:"sriov,omitzero"`
	IPsec IPsecChange `json:"ipsec,omitzero"`
}

// VMQChange is what of a VMQPolicy is asked for.
type VMQChange struct {
	Mode   *OffloadMode `json:"mode,omitempty"`
	Weight *int         `json:"weight,omitempty"`
}

// SRIOVChange is what of an SRIOVPolicy is asked for. What says how the VF is to be goes
// with the VF, unless it is asked for anew.
type SRIOVChange struct {
	Mode       *OffloadMode `json:"mode,omitempty"`
	Weight     *int         `json:"weight,omitempty"`
	QueuePairs *int         `json:"queuePairs,omitempty"`
	Moderation *Moderation  `json:"interruptModeration,omitempty"`
	Failover   *bool        `json:"failover,omitempty"`
}

// IPsecChange is what of an IPsecPolicy is asked for.
type IPsecChange struct {
	Mode   *OffloadMode `json:"mode,omitempty"`
	MaxSAs *int         `json:"maxSAs,omitempty"`
}

// IsZero reports whether nothing is asked for.
func (c OffloadChange) IsZero() bool { return c == OffloadChange{} }

func (c OffloadChange) apply(p OffloadPolicy) OffloadPolicy {
	p.VMQ.Mode, p.VMQ.Weight = rewish(p.VMQ.Mode, p.VMQ.Weight, c.VMQ.Mode, c.VMQ.Weight)
	p.IPsec.Mode, p.IPsec.MaxSAs = rewish(p.IPsec.Mode, p.IPsec.MaxSAs, c.IPsec.Mode, c.IPsec.MaxSAs)
	p.SRIOV = c.SRIOV.apply(p.SRIOV)
	return p
}

func (c SRIOVChange) apply(p SRIOVPolicy) SRIOVPolicy {
	p.Mode, p.Weight = rewish(p.Mode, p.Weight, c.Mode, c.Weight)
	if (c.Mode != nil || c.Weight != nil) && p.off() {
		p = SRIOVPolicy{Mode: p.Mode, Weight: p.Weight}
	}
	if c.QueuePairs != nil {
		p.QueuePairs = NumberOf(*c.QueuePairs)
	}
	change(&p.Moderation, c.Moderation)
	change(&p.Failover, c.Failover)
	return p
}

// rewish is a wish after a change of one part or both.
func rewish(mode OffloadMode, amount Number, toMode *OffloadMode, toAmount *int) (OffloadMode, Number) {
	if toMode == nil && toAmount == nil {
		return mode, amount
	}
	if toMode != nil {
		mode = *toMode
		if toAmount == nil && (mode == OffloadOff) != (amount.Or(1) <= 0) {
			amount = Number{}
		}
	}
	if toAmount != nil {
		amount = NumberOf(*toAmount)
		if toMode == nil && (mode == OffloadOff) != (*toAmount <= 0) {
			mode = ""
		}
	}
	return mode, amount
}

// narrow takes less of what the port may have of a NIC.
func (c OffloadChange) narrow(found *problems, is OffloadPolicy) OffloadPolicy {
	if c.IsZero() {
		return is
	}
	wish := c.apply(is)
	if err := wish.Validate(); err != nil {
		found.within("offload", err)
		return is
	}
	for _, f := range Features() {
		was, now := is.Wish(f), wish.Wish(f)
		if now.Mode.demand() > was.Mode.demand() || now.Amount > was.Amount {
			found.widens("offload."+string(f), "%s is more than %s", wish.wishWords(f), is.wishWords(f))
		}
	}
	if w, p := wish.SRIOV, is.SRIOV; !w.off() && (w.QueuePairs.Or(DefaultQueuePairs) > p.QueuePairs.Or(DefaultQueuePairs) ||
		w.Moderation != p.Moderation || w.Failover != p.Failover) {
		found.widens("offload.sriov", "how the VF is to be is for the network to say: %s", is.wishWords(SRIOV))
	}
	return wish
}

// demand orders the modes by how much they ask for.
func (m OffloadMode) demand() int {
	switch m {
	case OffloadOff:
		return 0
	case OffloadRequire:
		return 2
	}
	return 1
}
