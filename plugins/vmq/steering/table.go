package steering

import "slices"

// ownTable is the indirection table that a driver makes by itself: all queues in turn
// (ethtool_rxfh_indir_default).
func ownTable(size, queues int) []uint32 {
	table := make([]uint32, size)
	for i := range table {
		table[i] = uint32(i % queues)
	}
	return table
}

// around is a table that keeps frames away from queues that ports hold: entries that lead
// there lead to the others in turn, or to queue 0 if there is no other; the rest stays.
func around(table []uint32, held []grant) []uint32 {
	taken := map[uint32]bool{}
	for _, g := range held {
		taken[uint32(g.Queue)] = true
	}
	others := slices.Clone(table)
	slices.Sort(others)
	others = slices.DeleteFunc(slices.Compact(others), func(q uint32) bool { return taken[q] })
	if len(others) == 0 {
		others = []uint32{0}
	}
	table = slices.Clone(table)
	next := 0
	for i, q := range table {
		if taken[q] {
			table[i] = others[next%len(others)]
			next++
		}
	}
	return table
}
