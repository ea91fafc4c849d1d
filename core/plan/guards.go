package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Guards are what the rules on one port drop of what its owner sends.
type Guards struct {
	DHCP, Router bool
	// Storm is the number of frames a second to more than one receiver that pass; 0 for
	// any number.
	Storm int
	// Bound is the port's own address and those that it may speak for in ARP and neighbour
	// discovery, as BindAddresses writes it; "" where it may speak for any.
	Bound string
}

// BindAddresses returns what Guards.Bound is for a port. The link-local address is the one
// that every system makes of the MAC (EUI-64, RFC 4291 appendix A).
func BindAddresses(mac vswitch.MAC, addresses ...netip.Addr) string {
	all := append(slices.Clone(addresses), mac.LinkLocal())
	slices.SortFunc(all, netip.Addr.Compare)
	words := []string{mac.String()}
	for _, a := range slices.Compact(all) {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

// BoundTo reads what BindAddresses has written.
func (g Guards) BoundTo() (mac vswitch.MAC, addresses []netip.Addr, err error) {
	words := strings.Fields(g.Bound)
	if len(words) == 0 {
		return mac, nil, nil
	}
	if mac, err = vswitch.ParseMAC(words[0]); err != nil {
		return mac, nil, err
	}
	for _, w := range words[1:] {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return mac, nil, err
		}
		addresses = append(addresses, a)
	}
	return mac, addresses, nil
}

// words are the `nft` commands that add or delete a port's elements.
func (g Guards) words(verb, dev string) []string {
	lines := []string{fmt.Sprintf("%s element bridge patchbay_guards guarded { %s }", verb, dev)}
	element := func(set, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%s element bridge patchbay_guards %s { %s }", verb, set, fmt.Sprintf(format, args...)))
	}
	if g.DHCP {
		element("dhcp", "%s", dev)
	}
	if g.Router {
		element("router", "%s", dev)
	}
	if g.Storm > 0 {
		element("storm", "%s limit rate over %d/second burst %d packets", dev, g.Storm, g.Storm)
	}
	if g.Bound == "" {
		return lines
	}
	element("bound", "%s", dev)
	mac, addresses, err := g.BoundTo()
	if err != nil {
		return lines // nothing of ours
	}
	for _, a := range addresses {
		if a.Is4() {
			element("arp", "%s . %s . %s", dev, mac, a)
		} else {
			element("nd", "%s . %s", dev, a)
		}
	}
	return lines
}
