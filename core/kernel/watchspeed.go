package kernel

import (
	"encoding/binary"
	"os"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// This file watches what ethtool changes: how fast a netdev is to be is told to the group
// "monitor" of ethtool's family of generic netlink (Linux 5.6), whether its link goes down for
// it or not. What a NIC and its neighbour agree on by themselves is told nowhere: the link goes
// down and up for that.

// Of linux/ethtool_netlink.h, which the unix package lacks in part.
const (
	linkModesChanged = 5 // ETHTOOL_MSG_LINKMODES_NTF
	linkModesHeader  = 1 // ETHTOOL_A_LINKMODES_HEADER
	headerDevIndex   = 1 // ETHTOOL_A_HEADER_DEV_INDEX
)

// openSpeedWatch subscribes to what is told of speeds.
func openSpeedWatch() (*os.File, error) {
	group, err := ethtoolGroup()
	if err != nil {
		return nil, err
	}
	return openWatch(unix.NETLINK_GENERIC, group)
}

// ethtoolGroup asks for the number that the group has on this machine.
func ethtoolGroup() (group int, err error) {
	c, err := dialNetlink(unix.NETLINK_GENERIC)
	if err != nil {
		return 0, os.NewSyscallError("netlink socket", err)
	}
	defer c.close()
	r := nl.NewNetlinkRequest(unix.GENL_ID_CTRL, unix.NLM_F_ACK)
	r.AddData(&nl.Genlmsg{Command: unix.CTRL_CMD_GETFAMILY, Version: 1})
	r.AddData(nl.NewRtAttr(unix.CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated("ethtool")))
	err = c.do([]request{{NetlinkRequest: r, answer: func(b []byte) { group = monitorGroup(b) }}})
	if err == nil && group == 0 {
		err = unix.ENOENT
	}
	return group, err
}

func monitorGroup(answer []byte) (number int) {
	for kind, groups := range attributes(answer[min(len(answer), nl.SizeofGenlmsg):]) {
		if kind != unix.CTRL_ATTR_MCAST_GROUPS {
			continue
		}
		for _, group := range attributes(groups) {
			var name string
			var id int
			for kind, v := range attributes(group) {
				switch {
				case kind == unix.CTRL_ATTR_MCAST_GRP_NAME:
					name = text(v)
				case kind == unix.CTRL_ATTR_MCAST_GRP_ID && len(v) >= 4:
					id = int(binary.NativeEndian.Uint32(v))
				}
			}
			if name == "monitor" {
				number = id
			}
		}
	}
	return number
}

// speeds handles what comes from ethtool's group.
func (w *watcher) speeds(messages []syscall.NetlinkMessage) {
	if messages == nil {
		w.tell(Event{Change: Lost})
		return
	}
	for _, m := range messages {
		if len(m.Data) < nl.SizeofGenlmsg || m.Data[0] != linkModesChanged {
			continue
		}
		for kind, header := range attributes(m.Data[nl.SizeofGenlmsg:]) {
			if kind != linkModesHeader {
				continue
			}
			for kind, v := range attributes(header) {
				if kind == headerDevIndex && len(v) >= 4 {
					w.of(SpeedChanged, int(binary.NativeEndian.Uint32(v)))
				}
			}
		}
	}
}
