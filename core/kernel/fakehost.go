package kernel

import (
	"context"
	"maps"
)

// SetHost changes what Host finds. Forwarding is not in it: that is the state's.
func (f *Fake) SetHost(h Host) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.around = h
}

// Host is Kernel's: what SetHost said, with the forwarding that there is.
func (f *Fake) Host(ctx context.Context) (Host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.around
	h.Sysctls = maps.Clone(h.Sysctls)
	if h.Sysctls == nil {
		h.Sysctls = make(map[string]string)
	}
	for key, on := range map[string]bool{"net/ipv4/ip_forward": f.onward.IPv4, "net/ipv6/conf/all/forwarding": f.onward.IPv6} {
		h.Sysctls[key] = "0"
		if on {
			h.Sysctls[key] = "1"
		}
	}
	return h, f.answers(ctx)
}
