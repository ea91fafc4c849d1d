package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// makeTap makes a tap in the namespace of the calling thread. It lasts only from when it has
// its mark: before that it ends with the process.
func makeTap(host *rtnl, s plan.MakeTap) (err error) {
	l, err := host.link(s.Name)
	if err == nil {
		return tapIsMarked(l, s)
	}
	if !isAbsent(err) {
		return err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &vswitch.Error{
			Kind: vswitch.CapabilityMissing, Object: "/dev/net/tun", Err: err, Hint: "load the module tun: `modprobe tun`",
		}
	}
	defer func() { _ = unix.Close(fd) }() // with which it ends, unless it shall not
	request, err := unix.NewIfreq(s.Name)
	if err != nil {
		return err
	}
	flags := unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if s.Queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	request.SetUint16(uint16(flags))
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	if err := host.do(markTap(s)); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
}

func tapIsMarked(l link, s plan.MakeTap) error {
	if l.kind == tapKind && l.alias == s.Mark {
		return nil
	}
	return &vswitch.Error{
		Kind: vswitch.AlreadyExists, Object: "netdev " + s.Name, Err: errors.New("it is somebody else's"), Hint: "name another one in the VM's definition",
	}
}

// tapKind is the rtnl link kind of a tap.
const tapKind = "tun"

func markTap(s plan.MakeTap) []request {
	m := byName(unix.RTM_NEWLINK, 0, s.Name, noHeader())
	m.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(s.Mark)))
	m.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, s.MAC[:]))
	return []request{{NetlinkRequest: m}}
}

func deleteTap(host *rtnl, step int, s plan.DeleteTap) error {
	l, err := host.link(s.Name)
	if isAbsent(err) || err == nil && (l.kind != tapKind || l.alias != s.Mark) {
		return nil
	}
	if err != nil {
		return err
	}
	return host.do(deleteLinks(step, 0, []int{l.index}))
}
