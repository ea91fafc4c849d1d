package vswitch

import (
	"fmt"
	"net"
	"net/netip"
)

// MAC is a 48-bit Ethernet address. The zero value means "none given".
type MAC [6]byte

// ParseMAC reads an address as any of aa:bb:cc:dd:ee:ff, aa-bb-cc-dd-ee-ff
// (Hyper-V's spelling) and aabb.ccdd.eeff. It fails with MACInvalid.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, &Error{Kind: MACInvalid, Err: fmt.Errorf("%.32q is not a MAC address", s), Hint: "write it like 02:00:5e:10:00:01"}
	}
	return MAC(hw), nil
}

// String is the Linux spelling, aa:bb:cc:dd:ee:ff; "" for the zero MAC.
func (m MAC) String() string {
	if m.IsZero() {
		return ""
	}
	return net.HardwareAddr(m[:]).String()
}

// MarshalText spells the address as String does.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what ParseMAC reads; the empty text is the zero MAC.
func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	parsed, err := ParseMAC(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// IsZero reports whether no address is given.
func (m MAC) IsZero() bool { return m == MAC{} }

// ValidateStatic refuses what no port may carry: the zero address, a multicast
// or broadcast address. It fails with MACInvalid.
func (m MAC) ValidateStatic() error {
	switch {
	case m.IsZero():
		return &Error{Kind: MACInvalid, Err: fmt.Errorf("the MAC address is all zero")}
	case m[0]&1 != 0:
		return &Error{
			Kind: MACInvalid, Err: fmt.Errorf("MAC address %s is a multicast address", m),
			Hint: fmt.Sprintf("clear the lowest bit of the first octet, as in %02x%s", m[0]&^1, m.String()[2:]),
		}
	}
	return nil
}

// LinkLocal is the IPv6 address that a netdev of this address makes for its link: its
// modified EUI-64 (RFC 4291, appendix A).
func (m MAC) LinkLocal() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// number is the address as an integer, for arithmetic on ranges.
func (m MAC) number() uint64 {
	var n uint64
	for _, b := range m {
		n = n<<8 | uint64(b)
	}
	return n
}

// derivedOctet begins every DerivedMAC, and no address of the pool.
const derivedOctet = 0x0e

// DerivedMAC is the address of a netdev of ours that guests never see: a
// bridge, the switch side of a veth pair. It is a pure function of its seeds,
// so a restored switch has the MAC it had, and it lies in 0e:... where no
// default pool does. 40 bits of hash keep 5000 of them apart.
func DerivedMAC(seeds ...string) MAC {
	m := MAC{derivedOctet}
	copy(m[1:], digest(seeds...))
	return m
}
