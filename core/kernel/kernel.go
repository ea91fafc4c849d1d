package kernel

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Kernel is a host's network stack. Its methods may be called at the same time
// from any goroutine.
type Kernel interface {
	// Observe returns what exists of scope: the bridges and ports that it names,
	// of their endpoints the addresses and routes, of their forwarding entries and
	// of the rules those that it names. An object that does not exist is not in
	// the result; a port's owner whose namespace is gone leaves Endpoint nil.
	Observe(ctx context.Context, scope plan.State) (plan.State, error)

	// Apply carries out steps in order and stops at the first that fails, with a
	// *StepError. Steps before it have been carried out; of those behind it some
	// may have been, since several travel in one message to the kernel.
	Apply(ctx context.Context, steps []plan.Step) error

	// Netdevs lists the netdevs of the host's namespace.
	Netdevs(ctx context.Context) ([]Netdev, error)

	// FreeNetdevs lists those of Netdevs that are in no bridge, team or other master. On a host
	// with many ports that is far less.
	FreeNetdevs(ctx context.Context) ([]Netdev, error)

	// Netdev returns one netdev, or an error of kind vswitch.NotFound.
	Netdev(ctx context.Context, name string) (Netdev, error)

	// VF returns what its NIC holds for the VF at a PCI address, whoever has it. What is no VF,
	// or one of a NIC without a netdev here, is vswitch.CapabilityMissing.
	VF(ctx context.Context, addr string) (VF, error)

	// Hear returns when a frame from an address comes in by a netdev, which says that whoever has
	// the address is behind it; what only tells where an address is (RARP) does not count. It waits
	// until ctx ends, and fails then.
	Hear(ctx context.Context, netdev string, from vswitch.MAC) error

	// PortCounters returns what was counted at each netdev of the host's namespace, by
	// name. It reads them all at once, so that its cost for each is small.
	PortCounters(ctx context.Context) (map[string]PortCounters, error)

	// ShareCounters returns what has gone by the classes of the netdevs, for those that are
	// shared.
	ShareCounters(ctx context.Context, netdevs ...string) (map[string]ShareCounters, error)

	// MirrorCounters returns what has been copied of the frames of netdevs, for those that are
	// there.
	MirrorCounters(ctx context.Context, netdevs ...string) (map[string]MirrorCounters, error)

	// Addressing returns what the host has on one netdev, in the order in which it can be
	// added to another, or an error of kind vswitch.NotFound.
	Addressing(ctx context.Context, netdev string) (plan.Addressing, error)

	// Team returns how a team's netdev and its members are now, the members in the order
	// in which they joined, or an error of kind vswitch.NotFound.
	Team(ctx context.Context, name string) (TeamState, error)

	// Capabilities finds out what this kernel can do, by trying it in a network
	// namespace made for the purpose. It takes milliseconds: keep the answer.
	Capabilities(ctx context.Context) (Capabilities, error)

	// ACLHits returns what the rules of a port's list have matched, by their text; of a
	// list that is not there as it is given, nothing.
	ACLHits(ctx context.Context, dev string, acl plan.ACL) (map[string][]ACLHits, error)

	// Host looks around: what the kernel is set to, and what else runs here.
	Host(ctx context.Context) (Host, error)

	// CheckNetns fails with vswitch.NetnsNotFound unless path is a network
	// namespace.
	CheckNetns(path string) error

	// NetnsID identifies the network namespace at path, or fails as CheckNetns does.
	NetnsID(path string) (NetnsID, error)

	// Watch calls tell for every Event, one at a time, from when it calls ready
	// until ctx ends, which is no error. tell must not wait for long.
	Watch(ctx context.Context, ready func(), tell func(Event)) error
}

// Netdev is a network device of the host as an uplink, a holder of a MAC address
// or a box in the topology.
type Netdev struct {
	Name     string        `json:"name"`
	Index    int           `json:"index,omitempty"`
	Kind     string        `json:"kind,omitempty"` // rtnl link kind: "", "bridge", "veth", "bond", ...
	MAC      vswitch.MAC   `json:"mac"`
	MTU      int           `json:"mtu"`
	MaxMTU   int           `json:"maxMTU,omitempty"` // 0: unknown
	Master   string        `json:"master,omitempty"`
	Peer     int           `json:"peer,omitempty"`  // of a veth: the index of the other end, in whatever namespace
	Lower    string        `json:"lower,omitempty"` // the netdev that a VLAN, macvlan or ipvlan lies on
	Alias    string        `json:"alias,omitempty"`
	Group    uint32        `json:"group,omitempty"` // the netdev group
	Up       bool          `json:"up"`
	Carrier  bool          `json:"carrier"`
	Loopback bool          `json:"loopback,omitempty"`
	Ethernet bool          `json:"ethernet"`           // ARPHRD_ETHER
	NoBridge bool          `json:"noBridge,omitempty"` // wireless, or IFF_DONT_BRIDGE
	VFs      []vswitch.MAC `json:"vfs,omitempty"`      // administrative MACs of its VFs
	NumVFs   int           `json:"numVFs,omitempty"`   // how many VFs it has, with an administrative MAC or without
	Speed    int           `json:"speed,omitempty"`    // Mbit/s of one netdev that was asked for; 0: unknown
	// Addresses are the host's own on it, without IPv6 link-local ones.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// TeamState is how a team is now.
type TeamState struct {
	Up bool `json:"up"`
	// Active is the member that carries all of an active/standby team.
	Active string `json:"active,omitempty"`
	// Partner is the system that LACP has found at the other end; zero for none.
	Partner vswitch.MAC   `json:"partner,omitzero"`
	Members []MemberState `json:"members"`
}

// MemberState is how one member of a team is now.
type MemberState struct {
	Name     string      `json:"name"`
	MAC      vswitch.MAC `json:"mac"`            // its own, which it does not use as a member
	Up       bool        `json:"up"`             // nobody has taken it down
	Link     bool        `json:"link"`           // as the team's monitor sees it
	InUse    bool        `json:"inUse"`          // it carries traffic
	Held     bool        `json:"held,omitempty"` // it stands by beside the team, and nothing is counted of it
	Failures int         `json:"failures"`
	Speed    int         `json:"speed,omitempty"` // Mbit/s; 0: unknown
	Counters
}

// Counters are what a netdev has counted since it is there.
type Counters struct {
	RxPackets uint64 `json:"rxPackets"`
	TxPackets uint64 `json:"txPackets"`
	RxBytes   uint64 `json:"rxBytes"`
	TxBytes   uint64 `json:"txBytes"`
	RxErrors  uint64 `json:"rxErrors"`
	TxErrors  uint64 `json:"txErrors"`
	RxDropped uint64 `json:"rxDropped"`
	TxDropped uint64 `json:"txDropped"`
}

// Capabilities is what a kernel can do of what Patchbay uses.
type Capabilities struct {
	PortLocked    bool `json:"portLocked"`    // bridge port flag "locked", Linux 5.18
	VLANFiltering bool `json:"vlanFiltering"` // CONFIG_BRIDGE_VLAN_FILTERING
	BridgeRules   bool `json:"bridgeRules"`   // CONFIG_NF_TABLES_BRIDGE
	GuardRules    bool `json:"guardRules"`    // CONFIG_NFT_LIMIT beside CONFIG_NF_TABLES_BRIDGE, Linux 5.11
	PriorityReset bool `json:"priorityReset"` // CONFIG_NF_TABLES_BRIDGE, Linux 6.5 or a stable kernel with its fix
	ACLRules      bool `json:"aclRules"`      // CONFIG_NF_TABLES_BRIDGE, Linux 5.7
	Limits        bool `json:"limits"`        // CONFIG_NET_SCH_TBF, CONFIG_IFB, CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED
	Shares        bool `json:"shares"`        // CONFIG_NET_SCH_HTB and CONFIG_NET_CLS_U32
	Mirroring     bool `json:"mirroring"`     // CONFIG_NF_TABLES_BRIDGE, CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED
	Bonding       bool `json:"bonding"`       // CONFIG_BONDING
	MemberRules   bool `json:"memberRules"`   // CONFIG_NF_TABLES_NETDEV, CONFIG_NFT_FWD_NETDEV and CONFIG_NETFILTER_EGRESS, Linux 5.16
	NAT           bool `json:"nat"`           // CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT and CONFIG_NFT_MASQ
}

// StepError tells which step failed and why. Err is an errno or a
// *vswitch.Error where the kind is known.
type StepError struct {
	Index int
	Step  plan.Step
	Err   error
}

// Error names the step in the words of `ip` and `bridge`.
func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Err) }

// Unwrap exposes the errno or the kind.
func (e *StepError) Unwrap() error { return e.Err }
