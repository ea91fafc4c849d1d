package kernel

import (
	"context"
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ClassCounters are what has gone by a class of a netdev that ports share, since the class
// was made.
type ClassCounters struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	// Dropped are packets that found no room or waited for too long.
	Dropped uint64 `json:"dropped"`
	// Borrowed are those of Packets beyond what the class is promised, for which others left
	// room. The kernel begins again after 4294967295.
	Borrowed uint64 `json:"borrowed"`
	// Waiting are the bytes that wait now.
	Waiting uint64 `json:"waiting"`
}

// Add is the sum, of classes of the same port at several netdevs.
func (c ClassCounters) Add(o ClassCounters) ClassCounters {
	return ClassCounters{
		Packets: c.Packets + o.Packets, Bytes: c.Bytes + o.Bytes, Dropped: c.Dropped + o.Dropped,
		Borrowed: c.Borrowed + o.Borrowed, Waiting: c.Waiting + o.Waiting,
	}
}

// ShareCounters are those of a netdev's classes by the MAC address of their port; that of the
// default flow is under the zero address.
type ShareCounters map[vswitch.MAC]ClassCounters

// ShareCounters reads the classes of netdevs. One that is not there or is not shared has none.
func (l *Linux) ShareCounters(ctx context.Context, netdevs ...string) (map[string]ShareCounters, error) {
	if err := ctx.Err(); err != nil || len(netdevs) == 0 {
		return nil, err
	}
	all := make(map[string]ShareCounters)
	err := l.host(func(c *rtnl) error {
		drops, err := c.queueDrops()
		for _, netdev := range netdevs {
			var dev link
			if err == nil {
				dev, err = c.link(netdev)
			}
			if isAbsent(err) {
				err = nil
				continue
			}
			if err == nil {
				all[netdev], err = c.shareCounters(dev.index, drops)
			}
		}
		return err
	})
	return all, err
}

// shareCounters reads a netdev's classes. What is dropped by a class's own queue, in which
// flows take turns, is counted there.
func (c *rtnl) shareCounters(dev int, drops map[queueAt]uint64) (ShareCounters, error) {
	var counted map[uint16]ClassCounters
	r := queueing(unix.RTM_GETTCLASS, unix.NLM_F_DUMP, dev, shareHandle, 0)
	err := c.dump(r, func() { counted = make(map[uint16]ClassCounters) }, func(b []byte) {
		if class := parseShareClass(b); class.ID != 0 {
			counted[class.ID] = parseClassCounters(b)
		}
	})
	if err != nil || len(counted) == 0 {
		return nil, noQueue(err)
	}
	classes, _, err := c.shareFilters(dev)
	if err != nil {
		return nil, err
	}
	classes[vswitch.MAC{}] = plan.DefaultClass
	all := make(ShareCounters)
	for mac, id := range classes {
		if of, there := counted[id]; there {
			of.Dropped = max(of.Dropped, drops[queueAt{dev, shareHandle | uint32(id)}])
			all[mac] = of
		}
	}
	return all, nil
}

// queueAt is a place for a queue: a netdev and a class of it.
type queueAt struct {
	dev    int
	parent uint32
}

// queueDrops lists what queues in classes of ours have dropped, at all netdevs.
func (c *rtnl) queueDrops() (drops map[queueAt]uint64, err error) {
	r := queueing(unix.RTM_GETQDISC, unix.NLM_F_DUMP, 0, 0, 0)
	err = c.dump(r, func() { drops = make(map[queueAt]uint64) }, func(b []byte) {
		if len(b) < sizeofTcMsg {
			return
		}
		at := queueAt{dev: int(binary.NativeEndian.Uint32(b[4:])), parent: binary.NativeEndian.Uint32(b[12:])}
		if at.parent&0xffff_0000 == shareHandle {
			drops[at] = parseClassCounters(b).Dropped
		}
	})
	return drops, err
}

const sizeofTcMsg = 20 // struct tcmsg

// parseClassCounters reads the counters of a class, or of a queue, in a message about it.
func parseClassCounters(b []byte) (c ClassCounters) {
	const borrows = 4 // in struct tc_htb_xstats
	for kind, v := range attributes(b[min(len(b), sizeofTcMsg):]) {
		switch {
		case kind == nl.TCA_XSTATS && len(v) >= borrows+4:
			c.Borrowed = uint64(binary.NativeEndian.Uint32(v[borrows:]))
		case kind == nl.TCA_STATS2:
			q := parseQueueCounters(v)
			c.Bytes, c.Packets, c.Waiting, c.Dropped = q.bytes, q.packets, q.waiting, q.dropped
		}
	}
	return c
}

// queueCounters are what classes, queues and actions have counted alike. Of overlimits an
// action has those that it could not send.
type queueCounters struct{ bytes, packets, waiting, dropped, overlimits uint64 }

func parseQueueCounters(stats []byte) (c queueCounters) {
	const (
		backlog    = 4 // in struct gnet_stats_queue
		drops      = 8
		overlimits = 16
		pkt64      = 8 // TCA_STATS_PKT64
	)
	for kind, v := range attributes(stats) {
		switch {
		case kind == nl.TCA_STATS_BASIC && len(v) >= 12: // struct gnet_stats_basic
			c.bytes = binary.NativeEndian.Uint64(v)
			c.packets = max(c.packets, uint64(binary.NativeEndian.Uint32(v[8:])))
		case kind == pkt64 && len(v) >= 8:
			c.packets = binary.NativeEndian.Uint64(v)
		case kind == nl.TCA_STATS_QUEUE && len(v) >= overlimits+4:
			c.waiting = uint64(binary.NativeEndian.Uint32(v[backlog:]))
			c.dropped = uint64(binary.NativeEndian.Uint32(v[drops:]))
			c.overlimits = uint64(binary.NativeEndian.Uint32(v[overlimits:]))
		}
	}
	return c
}
