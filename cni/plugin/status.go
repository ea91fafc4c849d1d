package plugin

import (
	"context"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/wire"
)

// status tells whether an ADD can succeed now.
func (p plugin) status(ctx context.Context, args wire.Call) error {
	c, err := parse(args.Stdin)
	if err != nil {
		return cniError(err)
	}
	if c.IPAM.Type == ownIPAM && len(c.IPAM.Ranges)+len(c.Runtime.IPRanges) == 0 && !c.Capabilities["ipRanges"] {
		return notAvailable(noRanges())
	}
	s, err := p.client.Status(ctx)
	if err != nil {
		return notAvailable(err)
	}
	if !s.Ready {
		return notReady(s)
	}
	if err := p.client.CanAttach(ctx, c.Switch, c.define); err != nil {
		return notAvailable(err)
	}
	return c.IPAM.call(ctx, invoke.DelegateStatus, args.Stdin)
}

// notAvailable is STATUS's code with an error's words.
func notAvailable(err error) error {
	e := asCNI(err)
	return types.NewError(codeNotAvailable, e.Msg, e.Details)
}

// notReady words what keeps an ADD from succeeding, and leaves out what a user
// should merely know of.
func notReady(s engine.Status) error {
	var words, hints []string
	for _, p := range s.Problems {
		if !p.Blocks {
			continue
		}
		words = append(words, p.Message)
		if p.Hint != "" {
			hints = append(hints, p.Hint)
		}
	}
	return types.NewError(codeNotAvailable, strings.Join(words, "; "), strings.Join(hints, "; "))
}
