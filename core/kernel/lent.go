package kernel

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// lendNetdev moves a netdev of the host into its owner's namespace, in one message: a
// process that is killed has moved it with its name and mark, or not at all.
func (a *applier) lendNetdev(s plan.LendNetdev) error {
	e := s.Lent.Endpoint
	owner, err := a.conn(e.Netns)
	if err != nil {
		return err
	}
	there, err := owner.link(e.Name)
	switch {
	case err == nil && there.alias == e.Alias:
		return nil
	case err == nil:
		return &vswitch.Error{
			Kind: vswitch.EndpointExists, Err: fmt.Errorf("the container already has an interface %s", e.Name),
			Hint: "give the attachment another interface name (CNI_IFNAME)",
		}
	case !isAbsent(err):
		return err
	}
	vf, err := a.host.link(s.Lent.Netdev)
	if isAbsent(err) {
		return noNetdev(s.Lent.Netdev)
	}
	if err == nil && vf.mac != e.MAC {
		err = wrongAddress(s.Lent.Netdev, vf.mac, e.MAC)
	}
	if err != nil {
		return err
	}
	ns, err := a.namespace(e.Netns)
	if err != nil {
		return err
	}
	m := moveMessage(vf.index, int(ns.file.Fd()), e.Name)
	m.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(e.Alias)))
	return a.host.do([]request{{NetlinkRequest: m}})
}

func wrongAddress(netdev string, has, wanted vswitch.MAC) error {
	return &vswitch.Error{
		Kind: vswitch.PluginFailed, Object: "netdev " + netdev, Err: fmt.Errorf("its MAC address is %s, and the port's %s", has, wanted),
		Hint: "report it to the vendor of the plugin: `patchbay plugin list` names it",
	}
}

// returnNetdev brings a netdev back that was lent.
func (a *applier) returnNetdev(s plan.ReturnNetdev) error {
	e := s.Lent.Endpoint
	owner, err := a.conn(e.Netns)
	if errors.Is(err, vswitch.NetnsNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := owner.link(e.Name)
	if isAbsent(err) || err == nil && l.alias != e.Alias {
		return nil
	}
	if err != nil {
		return err
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = home.Close() }()
	m := moveMessage(l.index, int(home.Fd()), s.Lent.Netdev)
	m.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, nil))
	err = owner.do([]request{{NetlinkRequest: m}})
	if isAbsent(errors.Unwrap(err)) || isAbsent(err) {
		return nil // its plugin has taken it meanwhile
	}
	return err
}

// moveMessage moves a netdev to a namespace. The name that it gets there is also the one that
// it comes with, so that it can come where another has the one that it had.
func moveMessage(index, netns int, name string) *nl.NetlinkRequest {
	header := *nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(index)
	header.Change = unix.IFF_UP // and down
	m := byName(unix.RTM_NEWLINK, 0, name, header)
	m.AddData(uint32Attribute(unix.IFLA_NET_NS_FD, netns))
	return m
}

// lent reads a netdev that an owner has been lent; none if it has no such.
func (o *observer) lent(id string, scope plan.Lent, seen *plan.State) error {
	e, err := o.owned(scope.Endpoint, func(l link) bool { return l.alias == scope.Endpoint.Alias })
	if e == nil || err != nil {
		return err
	}
	if seen.Lent == nil {
		seen.Lent = make(map[string]plan.Lent)
	}
	seen.Lent[id] = plan.Lent{Netdev: scope.Netdev, Endpoint: *e}
	return nil
}
