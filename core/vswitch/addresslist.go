package vswitch

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// AddressList is a few IP addresses as one word of a definition, "10.88.0.5 fd00::5", each
// once and in order: equal lists are equal texts. "" is none.
type AddressList string

// maxListed is more addresses than a NIC has.
const maxListed = 64

// ParseAddressList reads addresses with spaces or commas between them.
func ParseAddressList(text string) (AddressList, error) {
	var all []netip.Addr
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }) {
		a, err := netip.ParseAddr(word)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return "", &Error{Kind: Invalid, Object: "addresses", Err: fmt.Errorf("%.64q is not the address of a NIC", word), Hint: "write them as 10.88.0.5 or fd00::5, without a length"}
		}
		all = append(all, a.Unmap())
	}
	if len(all) > maxListed {
		return "", &Error{Kind: Range, Object: "addresses", Err: fmt.Errorf("%d are more than %d", len(all), maxListed)}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	words := make([]string, 0, len(all))
	for _, a := range slices.Compact(all) {
		words = append(words, a.String())
	}
	return AddressList(strings.Join(words, " ")), nil
}

// UnmarshalText is ParseAddressList.
func (l *AddressList) UnmarshalText(text []byte) (err error) {
	*l, err = ParseAddressList(string(text))
	return err
}

// All are the addresses of a list that ParseAddressList has made.
func (l AddressList) All() (all []netip.Addr) {
	for word := range strings.FieldsSeq(string(l)) {
		if a, err := netip.ParseAddr(word); err == nil {
			all = append(all, a)
		}
	}
	return all
}
