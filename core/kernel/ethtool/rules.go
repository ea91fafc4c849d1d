package ethtool

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Commands about queues and rules, of ETHTOOL_*.
const (
	getQueues    = 0x2d // GRXRINGS
	getRuleCount = 0x2e // GRXCLSRLCNT
	getRule      = 0x2f // GRXCLSRULE
	getRules     = 0x30 // GRXCLSRLALL
	deleteRule   = 0x31 // SRXCLSRLDEL
	insertRule   = 0x32 // SRXCLSRLINS
)

// The parts of a struct ethtool_rxnfc, whose middle is a struct ethtool_rx_flow_spec.
const (
	atData       = 8
	atFlow       = 16
	atHeader     = atFlow + 4   // union ethtool_flow_union: here a struct ethhdr
	atExt        = atFlow + 56  // struct ethtool_flow_ext
	atHeaderMask = atFlow + 76  // as the header, of the bits that count
	atExtMask    = atFlow + 128 // as the extension
	atCookie     = atFlow + 152
	atLocation   = atFlow + 160
	atCount      = 184
	atLocations  = 188
	nfcSize      = 192

	inExtEtherType, inExtTCI, inExtData, extSize = 8, 10, 12, 20
)

// What rules say.
const (
	etherFlow   = 0x12       // ETHER_FLOW
	flowExt     = 0x80000000 // FLOW_EXT
	anyLocation = 0xffffffff // RX_CLS_LOC_ANY
	special     = 0x80000000 // RX_CLS_LOC_SPECIAL
	vlanMask    = 0x0fff
	mostRules   = 1 << 16
)

// Rule sends received frames to a queue.
type Rule struct {
	// Location is where the driver has it, which also ranks it.
	Location uint32
	// MAC is the destination that frames must have; zero for a rule that is about something
	// else. VLAN is what they must be tagged with, 0 for anything.
	MAC  vswitch.MAC
	VLAN int
	// Plain says that MAC and VLAN is all there is to the rule. Others are of no use to
	// Insert.
	Plain bool
	// Queue is where the frames go; NoQueue if they go elsewhere.
	Queue int
}

// NoQueue is the queue of rules that drop frames, spread them, or give them to a VF.
const NoQueue = -1

// Rules are those that a NIC has.
type Rules struct {
	All []Rule
	// Slots is how many there can be, by what the driver says; 0 where it does not say.
	Slots int
	// Placed says that the driver chooses the location of new ones.
	Placed bool
}

func nfc(command uint32, locations int) []byte {
	b := make([]byte, nfcSize+4*locations)
	order.PutUint32(b, command)
	order.PutUint32(b[atCount:], uint32(locations))
	return b
}

// Queues is how many queues a NIC receives with.
func (c *Conn) Queues(netdev string) (int, error) {
	b := nfc(getQueues, 0)
	if err := c.do(netdev, b); err != nil {
		return 0, err
	}
	return int(min(order.Uint64(b[atData:]), mostRules)), nil
}

// Rules reads the rules of a NIC. It fails with Unsupported where the driver has none.
func (c *Conn) Rules(netdev string) (Rules, error) {
	count := nfc(getRuleCount, 0)
	if err := c.do(netdev, count); err != nil {
		return Rules{}, err
	}
	said := order.Uint64(count[atData:])
	r := Rules{Slots: int(said & (special - 1)), Placed: said&special != 0}
	list := nfc(getRules, int(min(order.Uint32(count[atCount:]), mostRules)))
	if err := c.do(netdev, list); err != nil {
		return Rules{}, fmt.Errorf("list rules: %w", err)
	}
	if n := order.Uint64(list[atData:]); r.Slots == 0 && n < mostRules {
		r.Slots = int(n)
	}
	for _, location := range parseLocations(list) {
		one := nfc(getRule, 0)
		order.PutUint32(one[atLocation:], location)
		err := c.do(netdev, one)
		switch {
		case err == nil:
			r.All = append(r.All, parseRule(one))
		case !Gone(err) && !Unfit(err): // which is what drivers say of a rule that went meanwhile
			return Rules{}, fmt.Errorf("read the rule at %d: %w", location, err)
		}
	}
	return r, nil
}

// parseLocations reads the answer to getRules.
func parseLocations(b []byte) []uint32 {
	n := min(int(order.Uint32(b[atCount:])), (len(b)-nfcSize)/4)
	all := make([]uint32, n)
	for i := range all {
		all[i] = order.Uint32(b[atLocations+4*i:])
	}
	return all
}

// parseRule reads the answer to getRule.
func parseRule(b []byte) Rule {
	r := Rule{Location: order.Uint32(b[atLocation:]), Queue: NoQueue}
	if cookie := order.Uint64(b[atCookie:]); cookie < mostRules {
		r.Queue = int(cookie)
	}
	flow := order.Uint32(b[atFlow:])
	if flow&^flowExt != etherFlow {
		return r
	}
	header, mask := b[atHeader:][:14], b[atHeaderMask:][:14]
	if string(mask[:6]) != "\xff\xff\xff\xff\xff\xff" {
		return r
	}
	r.MAC = vswitch.MAC(header[:6])
	r.Plain = string(mask[6:]) == "\x00\x00\x00\x00\x00\x00\x00\x00"
	if flow&flowExt == 0 {
		return r
	}
	ext, extMask := b[atExt:][:extSize], b[atExtMask:][:extSize]
	tci, tciMask := binary.BigEndian.Uint16(ext[inExtTCI:]), binary.BigEndian.Uint16(extMask[inExtTCI:])
	if tciMask == vlanMask {
		r.VLAN = int(tci & vlanMask)
	}
	r.Plain = r.Plain && tciMask == vlanMask && r.VLAN != 0 && order.Uint16(extMask[inExtEtherType:]) == 0 && order.Uint64(extMask[inExtData:]) == 0
	return r
}

// build is the command that inserts a rule.
func (r Rule) build() []byte {
	b := nfc(insertRule, 0)
	flow := uint32(etherFlow)
	copy(b[atHeader:], r.MAC[:])
	copy(b[atHeaderMask:], "\xff\xff\xff\xff\xff\xff")
	if r.VLAN != 0 {
		flow |= flowExt
		binary.BigEndian.PutUint16(b[atExt+inExtTCI:], uint16(r.VLAN))
		binary.BigEndian.PutUint16(b[atExtMask+inExtTCI:], vlanMask)
	}
	order.PutUint32(b[atFlow:], flow)
	order.PutUint64(b[atCookie:], uint64(r.Queue))
	order.PutUint32(b[atLocation:], r.Location)
	return b
}

// Insert adds a plain rule and returns its location. Of have, which Rules returned, it takes
// a free location where the driver does not choose one: the last, since the first ones rank
// higher and are left to others.
func (c *Conn) Insert(netdev string, r Rule, have Rules) (uint32, error) {
	location, err := have.free()
	if err != nil {
		return 0, err
	}
	r.Location = location
	b := r.build()
	if err := c.do(netdev, b); err != nil {
		return 0, err
	}
	return order.Uint32(b[atLocation:]), nil
}

// free is a location for one more rule.
func (r Rules) free() (uint32, error) {
	if r.Placed {
		return anyLocation, nil
	}
	taken := make(map[uint32]bool, len(r.All))
	for _, rule := range r.All {
		taken[rule.Location] = true
	}
	for i := r.Slots - 1; i >= 0; i-- {
		if !taken[uint32(i)] {
			return uint32(i), nil
		}
	}
	return 0, fmt.Errorf("all %d rules are taken: %w", r.Slots, unix.ENOSPC)
}

// Delete removes the rule at a location. It fails with Gone if there is none.
func (c *Conn) Delete(netdev string, location uint32) error {
	b := nfc(deleteRule, 0)
	order.PutUint32(b[atLocation:], location)
	return c.do(netdev, b)
}
