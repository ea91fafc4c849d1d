package kernel

import (
	"encoding/hex"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
)

// part is one netlink attribute of a message that we take apart.
type part struct {
	kind  uint16
	value []byte
}

// parts are the attributes behind a header.
func parts(b []byte, header int) (all []part) {
	if len(b) < header {
		return nil
	}
	for kind, v := range attributes(b[header:]) {
		all = append(all, part{kind, v})
	}
	return all
}

// message puts a header and attributes together again.
func message(header []byte, all []part) []byte {
	out := slices.Clone(header)
	for _, a := range all {
		out = append(out, nl.NewRtAttr(int(a.kind), a.value).Serialize()...)
	}
	return out
}

func valueOf(all []part, kind uint16) []byte {
	for _, a := range all {
		if a.kind == kind {
			return a.value
		}
	}
	return nil
}

func without(all []part, kinds ...uint16) []part {
	return slices.DeleteFunc(all, func(a part) bool { return slices.Contains(kinds, a.kind) })
}

// digest makes a key of a message.
func digest(b []byte) string {
	h := fnv.New128a()
	_, _ = h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

func addrOf(v []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(v)
	return a
}

func number32(b []byte) int { return int(nl.NativeEndian().Uint32(b)) }

// zero clears the number of the netdev in an attribute.
func zero(all []part, kind uint16) []part {
	for i, a := range all {
		if a.kind == kind {
			all[i].value = make([]byte, len(a.value))
		}
	}
	return all
}
