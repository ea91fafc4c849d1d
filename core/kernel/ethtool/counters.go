package ethtool

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// QueueCounters are what a NIC counted of one queue that it receives with, by the names
// rx_packets and rx_bytes; none where the driver does not count by queue.
func (c *Conn) QueueCounters(a Adapter, queue int) (map[string]uint64, error) {
	counted, err := queueStats(a.Index, queue)
	if err != nil || len(counted) > 0 {
		return counted, err
	}
	names, err := c.names(a.Netdev, statNames)
	if err != nil && !Unsupported(err) || len(names) == 0 {
		return nil, err
	}
	b := make([]byte, 8+8*len(names)) // struct ethtool_stats
	order.PutUint32(b, getStats)
	order.PutUint32(b[4:], uint32(len(names)))
	if err := c.do(a.Netdev, b); err != nil {
		return nil, err
	}
	return parseStats(b, names, queue), nil
}

// queueStat is how drivers call what they count of a queue: rx_queue_3_packets (igb, igc,
// ixgbe, ice), rx-3.packets (i40e), rx3_packets (mlx5), rx-3.rx_packets (sfc),
// [3]: rx_ucast_packets (bnxt).
var queueStat = regexp.MustCompile(`^(?:rx_queue_|rx-?|\[)(\d+)(?:_|\.|\.rx_|\]: rx_ucast_)(packets|bytes)$`)

// parseStats reads those of a queue from a struct ethtool_stats.
func parseStats(b []byte, names []string, queue int) map[string]uint64 {
	counted := map[string]uint64{}
	for i, name := range names {
		m := queueStat.FindStringSubmatch(name)
		if m == nil || m[1] != strconv.Itoa(queue) || 16+8*i > len(b) {
			continue
		}
		counted["rx_"+m[2]] = order.Uint64(b[8+8*i:])
	}
	return counted
}

// Of the generic netlink family netdev, since Linux 6.9.
const (
	netdevFamily  = "netdev"
	getQueueStats = 12 // NETDEV_CMD_QSTATS_GET
	statIfindex   = 1  // NETDEV_A_QSTATS_IFINDEX
	statQueueType = 2
	statQueueID   = 3
	statScope     = 4
	statRXPackets = 8
	statRXBytes   = 9
	scopeQueue    = 1 // NETDEV_QSTATS_SCOPE_QUEUE
	typeRX        = 0 // NETDEV_QUEUE_TYPE_RX
)

// queueStats asks the kernel, which has few drivers' yet; none is no error.
func queueStats(index, queue int) (map[string]uint64, error) {
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", netdevFamily, err)
	}
	r := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_DUMP)
	r.AddData(genericHeader{getQueueStats, 1})
	r.AddData(nl.NewRtAttr(statIfindex, nl.Uint32Attr(uint32(index))))
	r.AddData(nl.NewRtAttr(statScope, nl.Uint32Attr(scopeQueue)))
	var counted map[string]uint64
	err = dump(r, func(m []byte) {
		if c, of := parseQueueStats(m); of == queue {
			counted = c
		}
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil, nil // an older kernel, or a driver that does not count
	}
	return counted, err
}

// genericHeader is a struct genlmsghdr: command, version, and two bytes that must be zero.
// The library's own, nl.Genlmsg, is as long and copies what lies behind two in memory.
type genericHeader [nl.SizeofGenlmsg]byte

// Len is nl.NetlinkRequestData's.
func (genericHeader) Len() int { return nl.SizeofGenlmsg }

// Serialize is nl.NetlinkRequestData's.
func (h genericHeader) Serialize() []byte { return h[:] }

// dump asks for a list and reads it to its end. The library's way ends at the first message,
// since this family does not say of its messages that they are of a list (NLM_F_MULTI).
func dump(r *nl.NetlinkRequest, each func([]byte)) error {
	s, err := nl.Subscribe(unix.NETLINK_GENERIC) // to no group
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SetReceiveTimeout(&unix.Timeval{Sec: 10}); err != nil {
		return err
	}
	if err := s.Send(r); err != nil {
		return err
	}
	for {
		messages, _, err := s.Receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return verdict(m.Data)
			}
			each(m.Data)
		}
	}
}

// verdict is the error number at the end of an answer.
func verdict(b []byte) error {
	if len(b) < 4 {
		return nil
	}
	if n := int32(order.Uint32(b)); n < 0 {
		return unix.Errno(-n)
	}
	return nil
}

// parseQueueStats reads a queue's answer, and which one it is; -1 for none.
func parseQueueStats(b []byte) (map[string]uint64, int) {
	if len(b) < nl.SizeofGenlmsg {
		return nil, -1
	}
	said := attributes(b[nl.SizeofGenlmsg:])
	kind, typed := number(said[statQueueType])
	queue, numbered := number(said[statQueueID])
	if !typed || !numbered || kind != typeRX || queue > mostRules {
		return nil, -1
	}
	counted := map[string]uint64{}
	for name, kind := range map[string]uint16{"rx_packets": statRXPackets, "rx_bytes": statRXBytes} {
		if n, there := number(said[kind]); there {
			counted[name] = n
		}
	}
	return counted, int(queue)
}
