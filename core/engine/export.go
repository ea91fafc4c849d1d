package engine

import (
	"context"
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ExportRequest asks for the configuration of the host.
type ExportRequest struct{}

// Export is the whole configuration of a host, with what became of what it leaves out.
type Export struct {
	Config vswitch.Config `json:"config"`
	// MACPool is the range in use, EffectiveMTU that of each switch.
	MACPool      vswitch.MACRange `json:"macPool"`
	EffectiveMTU map[string]int   `json:"effectiveMTU"`
}

// exported is a switch as one would define it: without what its type implies.
func exported(s vswitch.Switch) vswitch.Switch {
	bare := s
	bare.HostAccess = nil
	if s.HostPort() == bare.HostPort() {
		s = bare
	}
	s.Gateway = slices.Clone(s.Gateway)
	return s
}

// Export returns the configuration that Apply would find nothing to change with. A MAC
// pool that was never changed is not in it: each machine has its own.
func (e *Engine) Export(context.Context, ExportRequest) (Export, error) {
	out := Export{Config: vswitch.Config{Version: vswitch.ConfigVersion}, EffectiveMTU: make(map[string]int)}
	err := e.store.View(func(tx *store.Tx) error {
		pool, isDefault, err := tx.MACRange()
		if err != nil {
			return err
		}
		if out.MACPool = pool; !isDefault {
			out.Config.MACPool = &pool
		}
		teams, err := tx.Teams()
		if err != nil {
			return err
		}
		for _, t := range teams {
			out.Config.Teams = append(out.Config.Teams, t.Bare())
		}
		records, err := tx.Switches()
		for _, r := range records {
			out.Config.Switches = append(out.Config.Switches, exported(r.Switch))
			out.EffectiveMTU[r.Name] = r.EffectiveMTU
		}
		return err
	})
	return out, fault("export", "", err)
}
