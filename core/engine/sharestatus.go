package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file tells what became of minimums of bandwidth.

// MinimumStatus is what became of a port's minimum.
type MinimumStatus struct {
	// Effective is what the port can send by the uplink whatever others do, in bits a second;
	// 0 for nothing. Of a team it is what it can by each member.
	Effective vswitch.Bits `json:"effective"`
	// Reason says why that is not what was asked for.
	Reason string `json:"reason,omitempty"`
}

// minimumOf looks at the kernel for what became of a port's minimum.
func (e *Engine) minimumOf(ctx context.Context, p vswitch.Port) (*MinimumStatus, error) {
	if p.Policy.Bandwidth.Min.IsZero() {
		return nil, nil
	}
	var r store.SwitchRecord
	var want plan.State
	err := e.store.View(func(tx *store.Tx) (err error) {
		if r, err = tx.Switch(p.Switch); err != nil || r.Uplink == "" {
			return err
		}
		want, err = sharedState(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	seen, err := e.kernel.Observe(ctx, want)
	if err != nil {
		return nil, err
	}
	m := &MinimumStatus{Reason: noMinimum(p, r)}
	if m.Reason != "" {
		return m, nil
	}
	m.Effective, m.Reason = effective(p, want, seen)
	return m, nil
}

// noMinimum says why a port cannot have a minimum, "" if it can.
func noMinimum(p vswitch.Port, r store.SwitchRecord) string {
	switch {
	case r.Uplink == "":
		return "the switch has no uplink: there is nothing to wait for"
	case p.MACSpoofing:
		return "it may send from any MAC address, by which its frames would be known: it is part of the default flow"
	}
	return ""
}

// effective is the least that a port has at any of the netdevs.
func effective(p vswitch.Port, want, seen plan.State) (least vswitch.Bits, reason string) {
	least = vswitch.MaxBits
	for _, netdev := range slices.Sorted(maps.Keys(want.Shares)) {
		have := seen.Shares[netdev]
		if have.Tree == nil || have.Tree.Rate == 0 {
			return 0, untold(netdev, have)
		}
		least = min(least, vswitch.Bits(have.Tree.Classes[p.MAC].Rate*8).Rounded())
	}
	if asked := p.Policy.Bandwidth.Min.Rate; least < asked {
		reason = fmt.Sprintf("more is promised than the uplink carries: %s were asked for", asked)
	}
	return least, reason
}

// untold says why a netdev has no classes.
func untold(netdev string, have plan.Sharing) string {
	if have.Link == 0 {
		return fmt.Sprintf("%s does not tell how fast it is, or has no link", netdev)
	}
	return fmt.Sprintf("%s is not shared as it should be", netdev)
}

// judgeShares warns of a switch whose uplink cannot keep what its ports are promised.
func (s *Status) judgeShares(r store.SwitchRecord, want, seen plan.State) {
	for _, netdev := range slices.Sorted(maps.Keys(want.Shares)) {
		sharing, have := want.Shares[netdev], seen.Shares[netdev]
		if len(sharing.Ports) == 0 {
			continue
		}
		object := fmt.Sprintf("switch %s: ", r.Name)
		switch promised := sharing.Promised(have.Link); {
		case have.Link == 0 && have.Tree == nil:
			s.Problems = append(s.Problems, Problem{
				Kind: vswitch.Admission, Message: object + "minimums of bandwidth are not kept: " + untold(netdev, have),
				Hint: fmt.Sprintf("check the cable, and `ethtool %s`", netdev),
			})
		case have.Link != 0 && promised > have.Link:
			s.Problems = append(s.Problems, Problem{
				Kind: vswitch.Admission, Message: object + fmt.Sprintf("%s carries %s a second, of which %s are promised: each port has its part of that",
					netdev, vswitch.Bits(have.Link), vswitch.Bits(promised)),
				Hint: "lower minimums with `patchbay port set PORT --min-rate RATE`, or see why the link is slow",
			})
		}
	}
}

// explainShares tells how a switch's uplink is shared.
func (e *Engine) explainShares(ctx context.Context, r store.SwitchRecord) ([]Part, error) {
	if r.Uplink == "" {
		return nil, nil
	}
	var want plan.State
	err := e.store.View(func(tx *store.Tx) (err error) {
		want, err = sharedState(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	seen, err := e.kernel.Observe(ctx, want)
	if err != nil {
		return nil, err
	}
	for netdev, s := range seen.Shares {
		s.Tree = nil
		seen.Shares[netdev] = s
	}
	commands := spelled(plan.Diff(want, seen))
	if len(commands) == 0 {
		return nil, nil
	}
	return []Part{{
		What: "shares of " + strings.Join(slices.Sorted(maps.Keys(want.Shares)), ", "), Commands: commands,
		Why: fmt.Sprintf("Ports are promised parts of the uplink (mode %s). What leaves waits in a class of its own for each address that has a minimum, and in one for all others; each class can send as much as it was promised, and takes its part of what the others leave.", r.MinBandwidth.Mode.Effective()),
	}}, nil
}
