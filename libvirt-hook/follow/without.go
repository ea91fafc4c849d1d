//go:build !cgo || !libvirt_dlopen

package follow

// Built says whether this program was built with libvirt.
const Built = false

// Connect is a Dial that always fails: this build has no libvirt.
func Connect(string, func(Event), func()) (Libvirt, error) { return nil, ErrWithout }
