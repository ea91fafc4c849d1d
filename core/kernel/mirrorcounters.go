package kernel

import (
	"context"

	"github.com/vishvananda/netlink/nl"
)

// MirrorCounters are the copies of a port's frames: of each one as many as there are
// destinations.
type MirrorCounters struct {
	Copies uint64 `json:"copies"`
	// Lost are those that a destination could not take, being down.
	Lost uint64 `json:"lost"`
}

// MirrorCounters reads what the filters of netdevs have copied. One that is not there is not
// in the result, and one without filters has zero.
func (l *Linux) MirrorCounters(ctx context.Context, netdevs ...string) (map[string]MirrorCounters, error) {
	if err := ctx.Err(); err != nil || len(netdevs) == 0 {
		return nil, err
	}
	all := make(map[string]MirrorCounters)
	err := l.host(func(c *rtnl) error {
		for _, netdev := range netdevs {
			port, err := c.link(netdev)
			if isAbsent(err) {
				continue
			}
			if err != nil {
				return err
			}
			if all[netdev], err = c.mirrorCounters(port.index); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

func (c *rtnl) mirrorCounters(port int) (sum MirrorCounters, err error) {
	for _, at := range mirrorPlaces() {
		var here MirrorCounters
		err := c.eachAction(at, port, func() { here = MirrorCounters{} }, func(action []byte) {
			const actionStats = 4 // TCA_ACT_STATS
			if _, copies := mirredTo(action, mirredMirror); !copies {
				return
			}
			for kind, v := range attributes(action) {
				if kind&^nl.NLA_F_NESTED == actionStats {
					q := parseQueueCounters(v)
					here.Copies += q.packets - min(q.packets, q.overlimits)
					here.Lost += q.overlimits
				}
			}
		})
		if err != nil {
			return sum, err
		}
		sum.Copies, sum.Lost = sum.Copies+here.Copies, sum.Lost+here.Lost
	}
	return sum, nil
}
