package ethtool

// Commands about the indirection table, of ETHTOOL_*.
const (
	getIndirection = 0x38 // GRXFHINDIR
	setIndirection = 0x39 // SRXFHINDIR
)

const mostEntries = 1 << 16

// Indirection is the table that spreads received frames among queues, by a hash. It is nil
// where the NIC has none.
func (c *Conn) Indirection(netdev string) ([]uint32, error) {
	size := indirection(getIndirection, nil)
	err := c.do(netdev, size)
	if Unsupported(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := indirection(getIndirection, make([]uint32, min(order.Uint32(size[4:]), mostEntries)))
	if err := c.do(netdev, b); err != nil {
		return nil, err
	}
	return parseIndirection(b), nil
}

// SetIndirection replaces the table; nil brings back the driver's own, which it will adapt
// to the number of queues by itself.
func (c *Conn) SetIndirection(netdev string, table []uint32) error {
	return c.do(netdev, indirection(setIndirection, table))
}

// indirection is a struct ethtool_rxfh_indir.
func indirection(command uint32, table []uint32) []byte {
	b := make([]byte, 8+4*len(table))
	order.PutUint32(b, command)
	order.PutUint32(b[4:], uint32(len(table)))
	for i, queue := range table {
		order.PutUint32(b[8+4*i:], queue)
	}
	return b
}

func parseIndirection(b []byte) []uint32 {
	table := make([]uint32, min(int(order.Uint32(b[4:])), (len(b)-8)/4))
	for i := range table {
		table[i] = order.Uint32(b[8+4*i:])
	}
	return table
}
