package plan

import (
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Step is one change of the kernel. Carrying it out twice is the same as once,
// and its String is the `ip`, `bridge`, `nft` or `sysctl` command that it equals.
type Step interface {
	fmt.Stringer
	step()
}

// The steps. Each names all it needs, so that any prefix of a plan leaves a
// state that a later plan understands.
type (
	// CreateBridge makes a bridge with the constant options and brings it up.
	CreateBridge struct{ Bridge Bridge }
	// SetBridge brings an existing bridge to its MAC, MTU, alias and options.
	SetBridge struct{ Bridge Bridge }
	// DeleteBridge removes a bridge; one that is not there is fine.
	DeleteBridge struct{ Name string }

	// CreateVeth makes a pair whose one end, down and without IPv6, is the bridge's port
	// and whose other end is born in the owner's namespace with its name, MAC and MTU.
	CreateVeth struct{ Port Port }
	// SetPort gives a netdev its master, alias, group, MTU, MAC and bridge flags
	// and brings it up. Without a bridge it sets MTU and MAC alone. The port joins the
	// VLANs that it is to be in before it leaves the others.
	SetPort struct {
		Port  Port
		Leave vswitch.VLANSet
	}
	// FilterVLANs makes a bridge keep VLANs apart, or not, and takes the bridge itself
	// out of all of them.
	FilterVLANs struct {
		Bridge string
		On     bool
	}
	// ReleasePort takes somebody else's netdev out of its bridge, and out of our
	// netdev group if Ungroup says that it is in one.
	// One that Stays is in a bridge of somebody else by now.
	ReleasePort struct {
		Name    string
		Ungroup bool
		Stays   bool
	}
	// DeleteNetdev removes a netdev of ours, and with it the pair's other end, and the one
	// by which a guest's port is limited. One that is not there is fine, and one of the
	// name that is not ours stays.
	DeleteNetdev struct{ Name string }
	// DeleteNetdevs is DeleteNetdev for many together: the kernel's wait for each is
	// long, and shared.
	DeleteNetdevs struct{ Names []string }

	// AddFDB adds or replaces a static, sticky forwarding entry: in one VLAN, or with
	// VLAN 0 in all that the port is in.
	AddFDB struct {
		Port string
		MAC  vswitch.MAC
		VLAN int
	}
	// DeleteFDB removes what AddFDB adds.
	DeleteFDB struct {
		Port string
		MAC  vswitch.MAC
		VLAN int
	}

	// SetEndpoint gives the owner's end its MAC, unless that is zero, its MTU and alias and
	// brings it up.
	SetEndpoint struct {
		Port     string // the switch end, which knows its peer
		Endpoint Endpoint
	}
	// AddAddress adds an address to the owner's end.
	AddAddress struct {
		At      At
		Address Address
	}
	// DeleteAddress removes an address from the owner's end.
	DeleteAddress struct {
		At      At
		Address Address
	}
	// AddRoute adds a route by the owner's end. One to the same destination that is
	// there already stays: the owner's first network keeps its default route.
	AddRoute struct {
		At    At
		Route vswitch.Route
	}
	// DeleteRoute removes a route by the owner's end.
	DeleteRoute struct {
		At    At
		Route vswitch.Route
	}

	// AwaitPort waits until the bridge forwards to and from the port. The owner's
	// end is up by then, but the kernel tells the bridge a little later.
	AwaitPort struct{ Name string }

	// RequireRules changes nothing: it fails with vswitch.Drifted if Patchbay's
	// tables are not there. With NoNAT that for masquerade may be missing.
	RequireRules struct{ NoNAT bool }

	// SetRules changes elements of the sets in one transaction: everything in
	// Add is there afterwards and everything in Remove is not. Add.Base makes the
	// tables first if they are not there or not whole.
	SetRules struct{ Add, Remove Rules }
	// SetForwarding switches IP forwarding of the host on.
	SetForwarding struct{ Families Families }
)

// At is an owner's end: where, and under which name.
type At struct {
	Port  string // the switch end
	Netns string
	Name  string
}

func (CreateBridge) step()  {}
func (SetBridge) step()     {}
func (DeleteBridge) step()  {}
func (CreateVeth) step()    {}
func (SetPort) step()       {}
func (FilterVLANs) step()   {}
func (ReleasePort) step()   {}
func (DeleteNetdev) step()  {}
func (DeleteNetdevs) step() {}
func (AddFDB) step()        {}
func (DeleteFDB) step()     {}
func (SetEndpoint) step()   {}
func (AddAddress) step()    {}
func (DeleteAddress) step() {}
func (AddRoute) step()      {}
func (DeleteRoute) step()   {}
func (AwaitPort) step()     {}
func (RequireRules) step()  {}
func (SetRules) step()      {}
func (SetForwarding) step() {}

func (s CreateBridge) String() string {
	filtering := ""
	if s.Bridge.VLANFiltering {
		filtering = " vlan_filtering 1"
	}
	return fmt.Sprintf("ip link add %s address %s mtu %d type bridge stp_state 0 forward_delay 0%s vlan_default_pvid 0 mcast_snooping 0 && %s",
		s.Bridge.Name, s.Bridge.MAC, s.Bridge.MTU, filtering, SetBridge(s))
}

func (s SetBridge) String() string {
	return fmt.Sprintf("ip link set %s address %s mtu %d alias %q addrgenmode none up", s.Bridge.Name, s.Bridge.MAC, s.Bridge.MTU, s.Bridge.Alias)
}

func (s DeleteBridge) String() string { return "ip link del " + s.Name }

func (s CreateVeth) String() string {
	p, e := s.Port, s.Port.Endpoint
	return fmt.Sprintf("ip link add %s address %s mtu %d master %s group %#x type veth peer name %s address %s mtu %d%s && sysctl -w net.ipv6.conf.%s.disable_ipv6=1",
		p.Name, p.MAC, p.MTU, p.Bridge, p.Group, e.Name, e.MAC, e.MTU, netnsWords(e.Netns), p.Name)
}

func (s SetPort) String() string {
	p := s.Port
	words := []string{"ip link set", p.Name}
	if p.Bridge != "" {
		words = append(words, "master", p.Bridge)
	}
	if !p.MAC.IsZero() {
		words = append(words, "address", p.MAC.String())
	}
	if p.Group != 0 {
		words = append(words, fmt.Sprintf("group %#x", p.Group))
	}
	if p.Alias != "" {
		words = append(words, fmt.Sprintf("alias %q addrgenmode none", p.Alias))
	}
	words = append(words, fmt.Sprintf("mtu %d", p.MTU), upWord(p.Up))
	if p.Bridge == "" {
		return strings.Join(words, " ")
	}
	muted := ""
	if p.Isolated {
		muted += " isolated on"
	}
	if p.NoBroadcast {
		muted += " bcast_flood off"
	}
	if p.NoMulticast {
		muted += " mcast_flood off"
	}
	return fmt.Sprintf("%s && bridge link set dev %s learning %s flood %s locked %s%s%s",
		strings.Join(words, " "), p.Name, onOff(p.Learning), onOff(p.Flood), onOff(p.Locked), muted, vlanWords(p, s.Leave))
}

// vlanWords are the `bridge vlan` commands of a port, each after " && ".
func vlanWords(p Port, leave vswitch.VLANSet) string {
	var b strings.Builder
	for _, list := range []struct {
		verb  string
		spans vswitch.VLANSet
		flags string
	}{{"add", p.VLANs.Untagged, " untagged"}, {"add", p.VLANs.Tagged, ""}, {"del", leave, ""}} {
		for _, s := range list.spans {
			if pvid := p.VLANs.PVID; list.verb == "add" && s.First <= pvid && pvid <= s.Last && s.First != s.Last {
				fmt.Fprintf(&b, " && bridge vlan add dev %s vid %s%s", p.Name, s, list.flags)
				s = vswitch.VLANSpan{First: pvid, Last: pvid}
			}
			flags := list.flags
			if list.verb == "add" && s.First == p.VLANs.PVID {
				flags = " pvid" + flags
			}
			fmt.Fprintf(&b, " && bridge vlan %s dev %s vid %s%s", list.verb, p.Name, s, flags)
		}
	}
	return b.String()
}

func (s FilterVLANs) String() string {
	return fmt.Sprintf("ip link set %s type bridge vlan_filtering %d && bridge vlan del dev %s vid 1-4094 self", s.Bridge, flagNumber(s.On), s.Bridge)
}

func flagNumber(on bool) int {
	if on {
		return 1
	}
	return 0
}

func inVLAN(id int) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf(" vlan %d", id)
}

func (s ReleasePort) String() string {
	if s.Stays {
		return "ip link set " + s.Name + " group 0"
	}
	if s.Ungroup {
		return "ip link set " + s.Name + " nomaster group 0"
	}
	return "ip link set " + s.Name + " nomaster"
}

func (s RequireRules) String() string {
	if s.NoNAT {
		return "nft list table bridge patchbay"
	}
	return "nft list table bridge patchbay && nft list table inet patchbay"
}
func (s AwaitPort) String() string    { return "ip monitor link dev " + s.Name }
func (s DeleteNetdev) String() string { return "ip link del " + s.Name }

func (s DeleteNetdevs) String() string {
	var b strings.Builder
	group := vswitch.DoomedGroup(s.Names...)
	for _, name := range s.Names {
		fmt.Fprintf(&b, "ip link set %s group %#x && ", name, group)
	}
	fmt.Fprintf(&b, "ip link del group %#x", group)
	return b.String()
}

func (s AddFDB) String() string {
	return fmt.Sprintf("bridge fdb replace %s dev %s master static sticky%s", s.MAC, s.Port, inVLAN(s.VLAN))
}

func (s DeleteFDB) String() string {
	return fmt.Sprintf("bridge fdb del %s dev %s master%s", s.MAC, s.Port, inVLAN(s.VLAN))
}

func (s SetEndpoint) String() string {
	e := s.Endpoint
	alias := ""
	if e.Alias != "" {
		alias = fmt.Sprintf("alias %q ", e.Alias)
	}
	if e.NoLinkLocal {
		alias += "addrgenmode none "
	}
	address := ""
	if !e.MAC.IsZero() {
		address = "address " + e.MAC.String() + " "
	}
	return fmt.Sprintf("%s link set %s %smtu %d %s%s", ipIn(e.Netns), e.Name, address, e.MTU, alias, upWord(e.Up))
}

func (s AddAddress) String() string {
	flag := ""
	if s.Address.NoDAD && s.Address.Prefix.Addr().Is6() {
		flag = " nodad"
	}
	return fmt.Sprintf("%s addr replace %s dev %s%s", ipIn(s.At.Netns), s.Address.Prefix, s.At.Name, flag)
}

func (s DeleteAddress) String() string {
	return fmt.Sprintf("%s addr del %s dev %s", ipIn(s.At.Netns), s.Address.Prefix, s.At.Name)
}

func (s AddRoute) String() string {
	return fmt.Sprintf("%s route add %s", ipIn(s.At.Netns), routeWords(s.Route, s.At.Name))
}

func (s DeleteRoute) String() string {
	return fmt.Sprintf("%s route del %s", ipIn(s.At.Netns), routeWords(s.Route, s.At.Name))
}

func (s SetForwarding) String() string {
	var words []string
	if s.Families.IPv4 {
		words = append(words, "net.ipv4.ip_forward=1")
	}
	if s.Families.IPv6 {
		words = append(words, "net.ipv6.conf.all.forwarding=1")
	}
	return "sysctl -w " + strings.Join(words, " ")
}

func ipIn(netns string) string {
	if netns == "" {
		return "ip"
	}
	return "nsenter --net=" + netns + " ip"
}

func netnsWords(netns string) string {
	if netns == "" {
		return ""
	}
	return " netns " + netns
}

func upWord(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func routeWords(r vswitch.Route, dev string) string {
	var b strings.Builder
	b.WriteString(r.Dst.String())
	if r.Gateway.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Gateway)
	}
	fmt.Fprintf(&b, " dev %s", dev)
	for _, opt := range []struct {
		word  string
		value int
	}{{"mtu", r.MTU}, {"advmss", r.AdvMSS}, {"metric", r.Priority}} {
		if opt.value != 0 {
			fmt.Fprintf(&b, " %s %d", opt.word, opt.value)
		}
	}
	if r.Table != nil {
		fmt.Fprintf(&b, " table %d", *r.Table)
	}
	if r.Scope != nil {
		fmt.Fprintf(&b, " scope %d", *r.Scope)
	}
	return b.String()
}
