package offload

import "github.com/patchbay-net/patchbay/plugins/ipsec/xfrm"

// Hear tells of changes that were under way while something else was done.
func (p *Provider) Hear(events ...xfrm.Event) {
	for _, o := range p.owners {
		o.heard(events)
	}
}
