package api

import (
	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// subject names what an argument of a verb is about, as keys and values of a log
// line.
func subject(arg any) []any {
	switch a := arg.(type) {
	case engine.AttachRequest:
		return append([]any{"switch", a.Switch}, subject(a.Owner)...)
	case vswitch.Owner:
		return []any{"port", a.PortID(), "owner", a.String()}
	case engine.ReservePortRequest:
		return append([]any{"switch", a.Switch}, subject(a.Owner)...)
	case engine.BindPortRequest:
		return append([]any{"netdev", a.Netdev}, subject(a.Owner)...)
	case []engine.BindPortRequest:
		if len(a) == 0 {
			return nil
		}
		return append([]any{"ports", len(a)}, subject(a[0])...)
	case engine.ExpectDomainRequest:
		return []any{"domain", a.Domain.String()}
	case engine.HoldMACRequest:
		return []any{"domain", a.Domain.String(), "mac", a.MAC.String()}
	case engine.TapRequest:
		return []any{"domain", a.Domain.String(), "netdev", a.Name}
	case engine.DefineNetworkRequest:
		return []any{"network", a.Name}
	case engine.ReleaseMACRequest:
		return []any{"domain", a.Domain.String(), "mac", a.MAC.String()}
	case engine.AddSwitchRequest:
		return []any{"switch", a.Switch.Name}
	case engine.ApplyRequest:
		return []any{"switches", len(a.Config.Switches), "prune", a.Prune}
	case engine.GCRequest:
		return []any{"network", a.Network, "valid", len(a.Valid)}
	case vswitch.MACRange:
		return []any{"range", a.String()}
	case string:
		return []any{"name", a}
	}
	return nil
}
