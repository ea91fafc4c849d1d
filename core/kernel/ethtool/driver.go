package ethtool

import (
	"bytes"
	"encoding/binary"
)

// Commands, of ETHTOOL_*.
const (
	getDriver  = 0x03 // GDRVINFO
	getStrings = 0x1b // GSTRINGS
	getStats   = 0x1d // GSTATS
	getSets    = 0x37 // GSSET_INFO
)

// Sets of strings, of enum ethtool_stringset.
const (
	statNames    = 1 // ETH_SS_STATS
	featureNames = 4 // ETH_SS_FEATURES
)

const stringSize = 32 // ETH_GSTRING_LEN

// mostStrings is more than any driver has: mlx5 comes to some 10000 with all its queues.
const mostStrings = 1 << 16

var order = binary.NativeEndian

// Driver is the name of the driver of a netdev.
func (c *Conn) Driver(netdev string) (string, error) {
	info := make([]byte, 196) // struct ethtool_drvinfo
	order.PutUint32(info, getDriver)
	if err := c.do(netdev, info); err != nil {
		return "", err
	}
	return text(info[4:36]), nil
}

// text is what a field of fixed size says.
func text(field []byte) string {
	before, _, _ := bytes.Cut(field, []byte{0})
	return string(before)
}

// names are a set of strings, in order; nil where the driver has none.
func (c *Conn) names(netdev string, set uint32) ([]string, error) {
	info := make([]byte, 20) // struct ethtool_sset_info
	order.PutUint32(info, getSets)
	order.PutUint64(info[8:], 1<<set)
	if err := c.do(netdev, info); err != nil {
		return nil, err
	}
	n := order.Uint32(info[16:])
	if order.Uint64(info[8:]) != 1<<set || n == 0 {
		return nil, nil
	}
	n = min(n, mostStrings)
	strings := make([]byte, 12+n*stringSize) // struct ethtool_gstrings
	order.PutUint32(strings, getStrings)
	order.PutUint32(strings[4:], set)
	order.PutUint32(strings[8:], n)
	if err := c.do(netdev, strings); err != nil {
		return nil, err
	}
	return parseNames(strings), nil
}

// parseNames reads a struct ethtool_gstrings.
func parseNames(b []byte) []string {
	n := min(int(order.Uint32(b[8:])), (len(b)-12)/stringSize)
	all := make([]string, n)
	for i := range all {
		all[i] = text(b[12+i*stringSize:][:stringSize])
	}
	return all
}
