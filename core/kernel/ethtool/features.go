package ethtool

import "slices"

// Commands about features, of ETHTOOL_*.
const (
	getFeatures = 0x3a // GFEATURES
	setFeatures = 0x3b // SFEATURES
)

// Switch is a feature of a driver that can be on or off.
type Switch struct {
	On bool
	// Fixed says that it cannot be changed.
	Fixed bool
}

// nTuple is what the kernel calls the feature without which there are no rules.
const nTuple = "rx-ntuple-filter"

// NTuple reads whether a driver takes rules.
func (c *Conn) NTuple(netdev string) (Switch, error) {
	bit, blocks, err := c.feature(netdev, nTuple)
	if err != nil || bit < 0 {
		return Switch{Fixed: true}, err
	}
	b := make([]byte, 8+16*blocks) // struct ethtool_gfeatures
	order.PutUint32(b, getFeatures)
	order.PutUint32(b[4:], uint32(blocks))
	if err := c.do(netdev, b); err != nil {
		return Switch{}, err
	}
	return parseFeature(b, bit), nil
}

// parseFeature reads a bit of a struct ethtool_gfeatures, whose blocks of 32 features are
// those that can be changed, that are asked for, that are on, and that never change.
func parseFeature(b []byte, bit int) Switch {
	at := 8 + 16*(bit/32)
	if at+16 > len(b) {
		return Switch{Fixed: true}
	}
	mask := uint32(1) << (bit % 32)
	return Switch{On: order.Uint32(b[at+8:])&mask != 0, Fixed: order.Uint32(b[at:])&mask == 0}
}

// SetNTuple turns rules on or off. Off, a driver forgets those that it has. What it does not
// want to change stays, without an error: read it back.
func (c *Conn) SetNTuple(netdev string, on bool) error {
	bit, blocks, err := c.feature(netdev, nTuple)
	if err != nil || bit < 0 {
		return err
	}
	b := make([]byte, 8+8*blocks) // struct ethtool_sfeatures: what is meant, and what it shall be
	order.PutUint32(b, setFeatures)
	order.PutUint32(b[4:], uint32(blocks))
	mask := uint32(1) << (bit % 32)
	order.PutUint32(b[8+8*(bit/32):], mask)
	if on {
		order.PutUint32(b[12+8*(bit/32):], mask)
	}
	return c.do(netdev, b)
}

// feature is the number of a feature, which is another in every kernel, and in how many
// blocks of 32 all of them are; -1 for one that the kernel does not know.
func (c *Conn) feature(netdev, name string) (bit, blocks int, err error) {
	names, err := c.names(netdev, featureNames)
	return slices.Index(names, name), (len(names) + 31) / 32, err
}
