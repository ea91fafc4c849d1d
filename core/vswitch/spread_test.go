package vswitch

import (
	"fmt"
	"testing"
)

// Names that look alike get numbers that do not: as few collide as of truly random
// ones.
func TestDerivedNamesSpread(t *testing.T) {
	const n = 20000
	ids, macs, short, octets := map[string]bool{}, map[MAC]bool{}, map[string]bool{}, map[[2]byte]bool{}
	for i := range n {
		id := Owner{Kind: OwnerContainer, Network: "net", ID: fmt.Sprint(i), Endpoint: "eth0"}.PortID()
		ids[id] = true
		macs[DerivedMAC("port", id)] = true
		short[shortHash(5, fmt.Sprint("production-", i))] = true
		r := DefaultMACRange(fmt.Sprintf("%032x", i))
		octets[[2]byte{r.First[3], r.First[4]}] = true
	}
	for name, c := range map[string]struct{ got, least int }{
		"port IDs": {len(ids), n}, "MAC addresses": {len(macs), n},
		"25 bits": {len(short), n - 20}, // 6 collisions expected
		"16 bits": {len(octets), 16500}, // 17230 of 65536 expected
	} {
		if c.got < c.least {
			t.Errorf("%s: %d of %d are different, want at least %d", name, c.got, n, c.least)
		}
	}
}
