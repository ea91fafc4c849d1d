package offload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/plugins/ipsec/xfrm"
)

// view is what there is to see of a network namespace besides SAs: netdevs, what their
// drivers can do, and routes.
type view struct {
	links   *netlink.Handle
	generic map[int]*nl.SocketHandle
	ethtool int // the number of that family of messages
	news    *os.File
}

// openView opens it in the network namespace that the calling thread is in.
func openView() (v *view, err error) {
	v = &view{generic: map[int]*nl.SocketHandle{}}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.links, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_GENERIC); err != nil {
		return nil, err
	}
	family, err := v.links.GenlFamilyGet("ethtool")
	if err != nil {
		return nil, fmt.Errorf("ask for features of netdevs: %w", err)
	}
	v.ethtool = int(family.ID)
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
	if err != nil {
		return nil, err
	}
	v.generic[unix.NETLINK_GENERIC] = &nl.SocketHandle{Socket: s}
	v.news, err = openNews()
	return v, err
}

func (v *view) close() {
	if v.links != nil {
		v.links.Close()
	}
	for _, s := range v.generic {
		s.Close()
	}
	if v.news != nil {
		_ = v.news.Close() // nothing was written
	}
}

// openNews makes a socket that hears of changes of netdevs and routes.
func openNews() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "rtnetlink")
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	} {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// news is what changed in a network namespace.
type news struct{ netdevs, routes bool }

// follow calls tell for what changes, until the view is closed or ctx ends.
func (v *view) follow(ctx context.Context, tell func(news)) error {
	raw, err := v.news.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = v.news.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := make([]byte, 1<<16)
	for ctx.Err() == nil {
		var n int
		var got error
		err := raw.Read(func(fd uintptr) bool {
			n, _, got = unix.Recvfrom(int(fd), buffer, 0)
			return !errors.Is(got, unix.EAGAIN) && !errors.Is(got, unix.EINTR)
		})
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ctx.Err()
		case errors.Is(got, unix.ENOBUFS):
			tell(news{true, true})
		case err != nil || got != nil:
			return errors.Join(err, got)
		default:
			if found := newsIn(buffer[:n]); found != (news{}) {
				tell(found)
			}
		}
	}
	return ctx.Err()
}

// newsIn reads what of rtnetlink's messages matters: of netdevs those that hardware is
// behind. Most that come and go are containers'.
func newsIn(b []byte) (found news) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return news{true, true} // better once too often
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if len(m.Data) < unix.SizeofIfInfomsg {
				continue
			}
			for kind := range attrsOf(m.Data[unix.SizeofIfInfomsg:]) {
				found.netdevs = found.netdevs || kind == unix.IFLA_PARENT_DEV_NAME
			}
		default:
			found.routes = true
		}
	}
	return found
}

// route is by which netdev the packets of an SA leave or come, 0 for none, and which of the two.
type route struct {
	index     int
	direction xfrm.Direction
}

// route finds it by the routing table: the kernel has a device encrypt only what is routed to
// that very device, and not to a bridge, a team or a VLAN above it.
func (v *view) route(sa xfrm.SA) route {
	r := route{direction: sa.Direction()}
	if r.direction == xfrm.Unknown {
		r.direction = xfrm.Outbound
		if v.local(sa.Dst()) {
			r.direction = xfrm.Inbound
		}
	}
	from, to := sa.Src(), sa.Dst()
	if r.direction == xfrm.Inbound {
		from, to = to, from
	}
	routes, err := v.links.RouteGetWithOptions(ip(to), &netlink.RouteGetOptions{SrcAddr: ip(from), Mark: sa.OutputMark()})
	if err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST {
		return route{direction: r.direction}
	}
	r.index = routes[0].LinkIndex
	return r
}

// local reports whether an address is this namespace's own.
func (v *view) local(a netip.Addr) bool {
	routes, err := v.links.RouteGet(ip(a))
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

func ip(a netip.Addr) net.IP { return a.AsSlice() }

// name is what a netdev is called, for reports.
func (v *view) name(index int) string {
	if index == 0 {
		return "no netdev"
	}
	l, err := v.links.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("netdev %d", index)
	}
	return l.Attrs().Name
}
