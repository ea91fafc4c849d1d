package vswitch

import "fmt"

// MACRange is the MAC pool's range of dynamic addresses, both ends included.
// PowerShell twin: Set-VMHost -MacAddressMinimum -MacAddressMaximum.
type MACRange struct {
	First MAC `json:"first"`
	Last  MAC `json:"last"`
}

// MaxMACPoolSize bounds a range to one 3-octet prefix: 2^24 addresses.
const MaxMACPoolSize = 1 << 24

// DefaultMACRange is the range of a host that was never told another: 256
// locally administered addresses 0a:50:42:HH:HH:00-ff, where HH:HH is a hash of
// the machine id. Two hosts get the same one with a chance of 1 in 65536, and a
// host keeps its range when its addresses change (Hyper-V derives octets 4 and 5
// from an IPv4 address instead).
func DefaultMACRange(machineID string) MACRange {
	sum := digest("mac pool", machineID)
	first := MAC{0x0a, 0x50, 0x42, sum[0], sum[1], 0x00}
	last := first
	last[5] = 0xff
	return MACRange{First: first, Last: last}
}

// Size is the number of addresses, at least 1 for a valid range.
func (r MACRange) Size() int { return int(r.Last.number()-r.First.number()) + 1 }

// Contains reports whether m lies in the range.
func (r MACRange) Contains(m MAC) bool {
	n := m.number()
	return r.First.number() <= n && n <= r.Last.number()
}

// String is "first-last".
func (r MACRange) String() string { return r.First.String() + "-" + r.Last.String() }

// Validate demands unicast ends in order under one 3-octet prefix, so that all
// of a range is unicast and no larger than 2^24. It fails with MACPoolRange.
func (r MACRange) Validate() error {
	var p problems
	for _, end := range []struct {
		field string
		mac   MAC
	}{{"first", r.First}, {"last", r.Last}} {
		if err := end.mac.ValidateStatic(); err != nil {
			p.found(MACPoolRange, "MAC pool", "%w", err).in(end.field)
		}
	}
	if r.First[0] == derivedOctet {
		p.found(MACPoolRange, "MAC pool", "addresses that begin with %02x are those of switches' own netdevs", derivedOctet).in("first")
	}
	if [3]byte(r.First[:3]) != [3]byte(r.Last[:3]) {
		p.found(MACPoolRange, "MAC pool", "%s and %s differ in their first three octets; a range has at most 2^24 addresses under one prefix", r.First, r.Last).in("last")
	} else if r.First.number() > r.Last.number() {
		p.found(MACPoolRange, "MAC pool", "the first address %s lies behind the last %s", r.First, r.Last).in("first")
	}
	return p.join()
}

// Wider suggests a range that holds r and about 16 times as many addresses or
// more (all of the prefix at the most): what an error about an empty pool proposes.
func (r MACRange) Wider() MACRange {
	size := uint64(r.Size()) * 16
	if size > MaxMACPoolSize {
		size = MaxMACPoolSize
	}
	for span := uint64(1); ; span *= 2 {
		if span < size {
			continue
		}
		first := r.First.number() &^ (span - 1)
		if first+span > r.Last.number() || span >= MaxMACPoolSize {
			return MACRange{First: macFromNumber(max(first, 1)), Last: macFromNumber(first + span - 1)} // 0 is no address
		}
	}
}

func macFromNumber(n uint64) MAC {
	var m MAC
	for i := len(m) - 1; i >= 0; i-- {
		m[i] = byte(n)
		n >>= 8
	}
	return m
}

// Exhausted is the error of an empty pool: which, how large, how to widen it.
func (r MACRange) Exhausted() error {
	wider := r.Wider()
	hint := fmt.Sprintf("run `patchbay mac pool set --first %s --last %s`, or give static addresses outside the range", wider.First, wider.Last)
	if wider == r {
		hint = "run `patchbay mac pool set` with another prefix, or give static addresses outside the range"
	}
	return &Error{
		Kind: MACPoolExhausted, Object: "MAC pool",
		Err:  fmt.Errorf("all %d addresses of %s are in use", r.Size(), r),
		Hint: hint,
	}
}
