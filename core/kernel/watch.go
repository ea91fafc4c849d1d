package kernel

import "github.com/patchbay-net/patchbay/core/vswitch"

// Event says that something of the host's namespace has changed, by whomever. It
// says where to look, not what is there now.
type Event struct {
	Change Change
	// Netdev is the name of what changed, or of what an address, a route or a
	// forwarding entry belongs to. Empty for Rules and Lost.
	Netdev string
	// Ours says that the netdev bears, or bore, a mark of ours: alias or group.
	Ours bool
	// Stranger says that the netdev is in a bridge of ours and bears no mark: it is shut until
	// somebody makes it a port.
	Stranger bool
	// Print is the same for two changes of a netdev after which it is the same in
	// all that a plan compares; 0 where the message does not tell.
	Print uint64
	// Team is the bond that the netdev is, or was, a member of.
	Team string
	// MAC is the address of a forwarding entry.
	MAC vswitch.MAC
}

// Change is a kind of Event.
type Change string

// The changes.
const (
	NetdevChanged     Change = "netdev"     // made, or changed in any way
	NetdevGone        Change = "gone"       // removed, renamed or moved to another namespace
	ForwardingChanged Change = "forwarding" // a static forwarding entry of a bridge
	QueueChanged      Change = "queue"      // a netdev's queueing discipline or filter
	SpeedChanged      Change = "speed"      // how fast a netdev is to be
	AddressChanged    Change = "address"
	RouteChanged      Change = "route"
	RulesChanged      Change = "rules" // elements or rules of our tables, or the tables
	// SpreadChanged is of an active/active team's table: something was altered in it, or
	// taken out of it. Netdev is the team.
	SpreadChanged Change = "spread"
	// MirrorChanged is of a table that copies a port's frames. Netdev is the switch's bridge.
	MirrorChanged Change = "mirror"
	// Lost says that more happened than could be told: everything may have changed.
	Lost Change = "lost"
)

// NetnsID tells one network namespace from all others of this boot, also those that
// are gone. A path may lead to another namespace tomorrow.
type NetnsID uint64
