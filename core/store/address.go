package store

import (
	"net/netip"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// address is a MAC or IP address as the allocator sees it: a number that sorts
// as bytes. IPv4 is mapped into IPv6, a MAC address fills the last six bytes.
type address [16]byte

func macAddress(m vswitch.MAC) (a address) {
	copy(a[10:], m[:])
	return a
}

func (a address) mac() vswitch.MAC { return vswitch.MAC(a[10:]) }

func ipAddress(ip netip.Addr) address { return ip.As16() }

func (a address) ip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

func (a address) next() address {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i]++; a[i] != 0 {
			break
		}
	}
	return a
}

// span is an inclusive run of addresses.
type span struct{ first, last address }

// pool is what dynamic addresses are taken from, span after span. Its id is a
// fingerprint: the same spans are the same pool, other spans are another.
type pool struct {
	id    uint64
	spans []span
}

// noPool is the id noted for an address that no pool has met.
const noPool = 0

func newPool(spans ...span) pool {
	var ends []byte
	for _, s := range spans {
		ends = append(append(ends, s.first[:]...), s.last[:]...)
	}
	return pool{id: checksum(nil, ends) | 1, spans: spans}
}

func macPool(r vswitch.MACRange) pool {
	return newPool(span{macAddress(r.First), macAddress(r.Last)})
}

func ipPool(spans []vswitch.Span) pool {
	converted := make([]span, len(spans))
	for i, s := range spans {
		converted[i] = span{ipAddress(s.First), ipAddress(s.Last)}
	}
	return newPool(converted...)
}
