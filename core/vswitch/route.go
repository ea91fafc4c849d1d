package vswitch

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
)

// Route is a route that an endpoint gets. Twin: `ip route add`.
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	Gateway  netip.Addr   `json:"gw,omitzero"`
	MTU      int          `json:"mtu,omitempty"`      // bytes; 0: the endpoint's
	AdvMSS   int          `json:"advmss,omitempty"`   // bytes; 0: what follows from the MTU
	Priority int          `json:"priority,omitempty"` // 0: the kernel's default
	Table    *int         `json:"table,omitempty"`    // nil: main
	Scope    *int         `json:"scope,omitempty"`    // nil: what the kernel derives; 0 global, 253 link, 254 host
}

// UnmarshalJSON reads a route and refuses keys it does not know.
func (r *Route) UnmarshalJSON(data []byte) error {
	type plain Route
	return UnmarshalStrict(data, (*plain)(r))
}

var _ json.Unmarshaler = (*Route)(nil)

// Validate reports every problem of a route: values that the kernel would cut to
// something else, and a gateway of the other family.
func (r Route) Validate() error {
	var p problems
	object := "route to " + r.Dst.String()
	if !r.Dst.IsValid() || r.Dst.Addr().Is4In6() {
		p.add(Invalid, "route", "dst is missing or no prefix like 10.0.0.0/24")
	} else if r.Gateway.IsValid() && r.Gateway.Is4() != r.Dst.Addr().Is4() {
		p.add(Invalid, object, "gateway %s is of the other family", r.Gateway)
	}
	within := func(key string, value, least, most int) {
		if value < least || value > most {
			p.add(Invalid, object, "%s %d is outside %d-%d", key, value, least, most)
		}
	}
	within("mtu", r.MTU, 0, MaxMTU)
	within("advmss", r.AdvMSS, 0, MaxMTU)
	within("priority", r.Priority, 0, math.MaxUint32)
	if r.Table != nil {
		within("table", *r.Table, 0, math.MaxUint32)
	}
	if r.Scope != nil {
		within("scope", *r.Scope, 0, 255)
	}
	return p.join()
}

// ValidateRoutes validates each route and refuses two to one destination, of which
// the kernel would take the first alone.
func ValidateRoutes(routes []Route) error {
	type identity struct {
		dst             netip.Prefix
		table, priority int
	}
	seen := make(map[identity]bool, len(routes))
	var p problems
	for _, r := range routes {
		if err := r.Validate(); err != nil {
			p = append(p, err)
			continue
		}
		id := identity{dst: r.Dst.Masked(), priority: r.Priority}
		if r.Table != nil {
			id.table = *r.Table
		}
		if seen[id] {
			p.add(Invalid, fmt.Sprintf("route to %s", r.Dst), "is there twice; give one of them another priority or table")
		}
		seen[id] = true
	}
	return p.join()
}
