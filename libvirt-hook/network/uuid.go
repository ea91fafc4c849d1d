package network

import (
	"fmt"
	"hash/fnv"
)

// uuidOf is the UUID of the network of that name, always the same: libvirt takes a second
// definition of a name only with the UUID of the first. It is of version 8 (RFC 9562).
func uuidOf(name string) string {
	h := fnv.New128a()
	_, _ = h.Write([]byte("patchbay libvirt network " + name)) // a hash takes everything
	u := h.Sum(nil)
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
