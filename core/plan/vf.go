package plan

import (
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// SetVFMAC has a NIC hold an address for one of its VFs, whoever has that. With the zero one it
// hands the VF no frames for an address any more, until the VF's driver asks for some.
type SetVFMAC struct {
	PF  string // the NIC's netdev
	VF  int
	MAC vswitch.MAC
}

func (SetVFMAC) step() {}

func (s SetVFMAC) String() string {
	return fmt.Sprintf("ip link set %s vf %d mac %s", s.PF, s.VF, s.MAC)
}

// LetIn has a NIC take in frames for an address, besides its own, or with Off no more. Some that are promiscuous
// hand those for a VF's address to the VF alone otherwise. A bridge does as much on a NIC that it has no need to make
// promiscuous, and knows no other's: Off takes that away, so no static entry may be there any more.
type LetIn struct {
	Netdev string
	MAC    vswitch.MAC
	Off    bool
}

func (LetIn) step() {}

func (s LetIn) String() string {
	verb := "add"
	if s.Off {
		verb = "del"
	}
	return fmt.Sprintf("bridge fdb %s %s dev %s self", verb, s.MAC, s.Netdev)
}
