package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// remote has patchbayd carry verbs out, and carries them out itself where it does
// not.
type remote struct {
	socket string
	dirs   store.Dirs
	build  string
	local  func() Verbs
}

var _ Verbs = (*remote)(nil)

// args are a verb's arguments.
type args []any

// ask has patchbayd carry out a verb; local does the same in this process. That is
// also what happens if patchbayd dies on the way: every verb may be repeated, so it
// is finished here, whatever part of it was done there.
func ask[R any](ctx context.Context, c *remote, name string, a args, local func(Verbs) (R, error)) (R, error) {
	reply, err := c.exchange(ctx, name, a)
	if err == nil {
		return read[R](name, reply)
	}
	if errors.Is(err, wire.ErrDied) && ctx.Err() != nil {
		var none R
		return none, &vswitch.Error{
			Kind: vswitch.KernelFailed, Op: name, Err: fmt.Errorf("interrupted: %w", context.Cause(ctx)),
			Hint: "patchbayd finishes what it began; look with `patchbay status`",
		}
	}
	return local(c.local())
}

// askQuiet is ask for a verb that answers nothing but its error.
func askQuiet(ctx context.Context, c *remote, name string, a args, local func(Verbs) error) error {
	_, err := ask(ctx, c, name, a, func(v Verbs) (nothing, error) { return nothing{}, local(v) })
	return err
}

// askToDelete is ask for what the engine fails to delete twice: gone is gone if
// patchbayd died over it.
func askToDelete[R any](ctx context.Context, c *remote, name string, a args, local func(Verbs) (R, error)) (R, error) {
	reply, err := c.exchange(ctx, name, a)
	if err == nil {
		return read[R](name, reply)
	}
	died := errors.Is(err, wire.ErrDied)
	result, err := local(c.local())
	if died && errors.Is(err, vswitch.NotFound) {
		return result, nil
	}
	return result, err
}

// read takes an answer apart.
func read[R any](name string, reply answer) (result R, err error) {
	if len(reply.Result) > 0 {
		if err := json.Unmarshal(reply.Result, &result); err != nil {
			return result, &vswitch.Error{
				Kind: vswitch.KernelFailed, Op: name, Err: fmt.Errorf("the answer of patchbayd: %w", err),
				Hint: "run `systemctl restart patchbayd`: it seems to be of another make",
			}
		}
	}
	return result, reply.Error.err()
}

// Attach is engine.Engine's.
func (c *remote) Attach(ctx context.Context, req engine.AttachRequest) (engine.Attachment, error) {
	local := func(v Verbs) (engine.Attachment, error) { return v.Attach(ctx, req) }
	if wire.OwnPath(req.Owner.Netns) {
		return local(c.local())
	}
	return ask(ctx, c, nameAttach, args{req}, local)
}

// Detach is engine.Engine's.
func (c *remote) Detach(ctx context.Context, owner vswitch.Owner) error {
	_, err := ask(ctx, c, nameDetach, args{owner}, func(v Verbs) (nothing, error) { return nothing{}, v.Detach(ctx, owner) })
	return err
}

// DeletePort is engine.Engine's.
func (c *remote) DeletePort(ctx context.Context, name string) error {
	_, err := askToDelete(ctx, c, nameDeletePort, args{name}, func(v Verbs) (nothing, error) {
		return nothing{}, v.DeletePort(ctx, name)
	})
	return err
}

// CanAttach is engine.Engine's.
func (c *remote) CanAttach(ctx context.Context, name string, define *vswitch.Switch) error {
	_, err := ask(ctx, c, nameCanAttach, args{name, define}, func(v Verbs) (nothing, error) {
		return nothing{}, v.CanAttach(ctx, name, define)
	})
	return err
}

// Check is engine.Engine's; steps that come from patchbayd are words.
func (c *remote) Check(ctx context.Context, owner vswitch.Owner) (engine.Check, error) {
	local := func(v Verbs) (engine.Check, error) { return v.Check(ctx, owner) }
	if wire.OwnPath(owner.Netns) {
		return local(c.local())
	}
	return ask(ctx, c, nameCheck, args{owner}, local)
}

// Attached is engine.Engine's.
func (c *remote) Attached(ctx context.Context, owner vswitch.Owner) (vswitch.Port, bool, error) {
	f, err := ask(ctx, c, nameAttached, args{owner}, func(v Verbs) (foundPort, error) { return attached(v, ctx, owner) })
	return f.Port, f.Found, err
}

// GC is engine.Engine's.
func (c *remote) GC(ctx context.Context, req engine.GCRequest) (engine.GCReport, error) {
	return ask(ctx, c, nameGC, args{req}, func(v Verbs) (engine.GCReport, error) { return v.GC(ctx, req) })
}

// ReservePort is engine.Engine's.
func (c *remote) ReservePort(ctx context.Context, req engine.ReservePortRequest) (vswitch.Port, error) {
	return ask(ctx, c, nameReservePort, args{req}, func(v Verbs) (vswitch.Port, error) { return v.ReservePort(ctx, req) })
}

// BindPort is engine.Engine's.
func (c *remote) BindPort(ctx context.Context, req engine.BindPortRequest) (vswitch.Port, error) {
	return ask(ctx, c, nameBindPort, args{req}, func(v Verbs) (vswitch.Port, error) { return v.BindPort(ctx, req) })
}

// BindPorts is engine.Engine's.
func (c *remote) BindPorts(ctx context.Context, reqs []engine.BindPortRequest) ([]vswitch.Port, error) {
	return ask(ctx, c, nameBindPorts, args{reqs}, func(v Verbs) ([]vswitch.Port, error) { return v.BindPorts(ctx, reqs) })
}

// ReleasePort is engine.Engine's.
func (c *remote) ReleasePort(ctx context.Context, owner vswitch.Owner) error {
	return askQuiet(ctx, c, nameReleasePort, args{owner}, func(v Verbs) error { return v.ReleasePort(ctx, owner) })
}

// ReleaseDomain is engine.Engine's.
func (c *remote) ReleaseDomain(ctx context.Context, id string) error {
	return askQuiet(ctx, c, nameReleaseVM, args{id}, func(v Verbs) error { return v.ReleaseDomain(ctx, id) })
}

// ExpectDomain is engine.Engine's.
func (c *remote) ExpectDomain(ctx context.Context, req engine.ExpectDomainRequest) error {
	return askQuiet(ctx, c, nameExpectVM, args{req}, func(v Verbs) error { return v.ExpectDomain(ctx, req) })
}

// ActivateDomain is engine.Engine's.
func (c *remote) ActivateDomain(ctx context.Context, id string) ([]vswitch.Port, error) {
	return ask(ctx, c, nameActivateVM, args{id}, func(v Verbs) ([]vswitch.Port, error) { return v.ActivateDomain(ctx, id) })
}

// ExportDomain is engine.Engine's.
func (c *remote) ExportDomain(ctx context.Context, id string) (engine.DomainState, error) {
	return ask(ctx, c, nameExportVM, args{id}, func(v Verbs) (engine.DomainState, error) { return v.ExportDomain(ctx, id) })
}

// AddSwitch is engine.Engine's.
func (c *remote) AddSwitch(ctx context.Context, req engine.AddSwitchRequest) (engine.SwitchStatus, error) {
	return ask(ctx, c, nameAddSwitch, args{req}, func(v Verbs) (engine.SwitchStatus, error) { return v.AddSwitch(ctx, req) })
}

// SetSwitch is engine.Engine's.
func (c *remote) SetSwitch(ctx context.Context, name string, change engine.SwitchChange) (engine.SwitchStatus, error) {
	if change.Gateway != nil && *change.Gateway == nil { // JSON would take "none" for "as it is"
		change.Gateway = &[]netip.Prefix{}
	}
	if change.PortProfiles != nil && *change.PortProfiles == nil {
		change.PortProfiles = &[]vswitch.PortProfile{}
	}
	return ask(ctx, c, nameSetSwitch, args{name, change}, func(v Verbs) (engine.SwitchStatus, error) {
		return v.SetSwitch(ctx, name, change)
	})
}

// DeleteSwitch is engine.Engine's.
func (c *remote) DeleteSwitch(ctx context.Context, req engine.DeleteSwitchRequest) (engine.DeleteSwitchReport, error) {
	return askToDelete(ctx, c, nameDeleteSwitch, args{req}, func(v Verbs) (engine.DeleteSwitchReport, error) {
		return v.DeleteSwitch(ctx, req)
	})
}

// Switch is engine.Engine's.
func (c *remote) Switch(ctx context.Context, name string) (engine.SwitchStatus, error) {
	return ask(ctx, c, nameSwitch, args{name}, func(v Verbs) (engine.SwitchStatus, error) { return v.Switch(ctx, name) })
}

// Switches is engine.Engine's.
func (c *remote) Switches(ctx context.Context) ([]engine.SwitchStatus, error) {
	return ask(ctx, c, nameSwitches, args{}, func(v Verbs) ([]engine.SwitchStatus, error) { return v.Switches(ctx) })
}

// AddTeam is engine.Engine's.
func (c *remote) AddTeam(ctx context.Context, t vswitch.Team) (engine.TeamStatus, error) {
	return ask(ctx, c, nameAddTeam, args{t}, func(v Verbs) (engine.TeamStatus, error) { return v.AddTeam(ctx, t) })
}

// SetTeam is engine.Engine's.
func (c *remote) SetTeam(ctx context.Context, name string, change engine.TeamChange) (engine.TeamStatus, error) {
	return ask(ctx, c, nameSetTeam, args{name, change}, func(v Verbs) (engine.TeamStatus, error) { return v.SetTeam(ctx, name, change) })
}

// DeleteTeam is engine.Engine's.
func (c *remote) DeleteTeam(ctx context.Context, name string, force bool) error {
	_, err := askToDelete(ctx, c, nameDeleteTeam, args{name, force}, func(v Verbs) (nothing, error) {
		return nothing{}, v.DeleteTeam(ctx, name, force)
	})
	return err
}

// Team is engine.Engine's.
func (c *remote) Team(ctx context.Context, name string) (engine.TeamStatus, error) {
	return ask(ctx, c, nameTeam, args{name}, func(v Verbs) (engine.TeamStatus, error) { return v.Team(ctx, name) })
}

// Teams is engine.Engine's.
func (c *remote) Teams(ctx context.Context) ([]engine.TeamStatus, error) {
	return ask(ctx, c, nameTeams, args{}, func(v Verbs) ([]engine.TeamStatus, error) { return v.Teams(ctx) })
}

// Ports is engine.Engine's.
func (c *remote) Ports(ctx context.Context, sw string) ([]vswitch.Port, error) {
	return ask(ctx, c, namePorts, args{sw}, func(v Verbs) ([]vswitch.Port, error) { return v.Ports(ctx, sw) })
}

// Port is engine.Engine's.
func (c *remote) Port(ctx context.Context, name string) (engine.PortStatus, error) {
	return ask(ctx, c, namePort, args{name}, func(v Verbs) (engine.PortStatus, error) { return v.Port(ctx, name) })
}

// SetPort is engine.Engine's.
func (c *remote) SetPort(ctx context.Context, name string, change engine.PortChange) (engine.PortStatus, error) {
	return ask(ctx, c, nameSetPort, args{name, change}, func(v Verbs) (engine.PortStatus, error) { return v.SetPort(ctx, name, change) })
}

// PortACL is engine.Engine's.
func (c *remote) PortACL(ctx context.Context, name string) ([]engine.ACLEntry, error) {
	return ask(ctx, c, namePortACL, args{name}, func(v Verbs) ([]engine.ACLEntry, error) { return v.PortACL(ctx, name) })
}

// PortStats is engine.Engine's.
func (c *remote) PortStats(ctx context.Context, req engine.PortStatsRequest) ([]engine.PortStats, error) {
	return ask(ctx, c, namePortStats, args{req}, func(v Verbs) ([]engine.PortStats, error) { return v.PortStats(ctx, req) })
}

// MACPool is engine.Engine's.
func (c *remote) MACPool(ctx context.Context) (engine.PoolStatus, error) {
	return ask(ctx, c, nameMACPool, args{}, func(v Verbs) (engine.PoolStatus, error) { return v.MACPool(ctx) })
}

// SetMACPool is engine.Engine's.
func (c *remote) SetMACPool(ctx context.Context, r vswitch.MACRange) (engine.PoolStatus, error) {
	return ask(ctx, c, nameSetMACPool, args{r}, func(v Verbs) (engine.PoolStatus, error) { return v.SetMACPool(ctx, r) })
}

// MACs is engine.Engine's.
func (c *remote) MACs(ctx context.Context) ([]engine.MACLease, error) {
	return ask(ctx, c, nameMACs, args{}, func(v Verbs) ([]engine.MACLease, error) { return v.MACs(ctx) })
}

// HoldMAC is engine.Engine's.
func (c *remote) HoldMAC(ctx context.Context, req engine.HoldMACRequest) (vswitch.MACHold, error) {
	return ask(ctx, c, nameHoldMAC, args{req}, func(v Verbs) (vswitch.MACHold, error) { return v.HoldMAC(ctx, req) })
}

// MakeTap is engine.Engine's.
func (c *remote) MakeTap(ctx context.Context, req engine.TapRequest) error {
	return askQuiet(ctx, c, nameMakeTap, args{req}, func(v Verbs) error { return v.MakeTap(ctx, req) })
}

// DeleteTap is engine.Engine's.
func (c *remote) DeleteTap(ctx context.Context, req engine.TapRequest) error {
	return askQuiet(ctx, c, nameDeleteTap, args{req}, func(v Verbs) error { return v.DeleteTap(ctx, req) })
}

// VFPool is engine.Engine's.
func (c *remote) VFPool(ctx context.Context, sw string) (engine.VFPool, error) {
	return ask(ctx, c, nameVFPool, args{sw}, func(v Verbs) (engine.VFPool, error) { return v.VFPool(ctx, sw) })
}

// DefineNetwork is engine.Engine's.
func (c *remote) DefineNetwork(ctx context.Context, req engine.DefineNetworkRequest) (engine.DefinedNetwork, error) {
	return ask(ctx, c, nameDefineNet, args{req}, func(v Verbs) (engine.DefinedNetwork, error) { return v.DefineNetwork(ctx, req) })
}

// ReleaseMAC is engine.Engine's.
func (c *remote) ReleaseMAC(ctx context.Context, req engine.ReleaseMACRequest) ([]vswitch.MACHold, error) {
	return ask(ctx, c, nameReleaseMAC, args{req}, func(v Verbs) ([]vswitch.MACHold, error) { return v.ReleaseMAC(ctx, req) })
}

// Status is engine.Engine's, with a problem more where a patchbayd runs that is of
// another build.
func (c *remote) Status(ctx context.Context) (engine.Status, error) {
	s, err := ask(ctx, c, nameStatus, args{}, func(v Verbs) (engine.Status, error) { return v.Status(ctx) })
	if r := c.skewed(ctx); err == nil && s.Daemon == nil && r != nil {
		s.Problems = append(s.Problems, engine.Problem{
			Kind:    vswitch.Conflict,
			Message: fmt.Sprintf("patchbayd (process %d) is of build %s, this is %s: commands and containers go past it", r.PID, r.Build, c.build),
			Hint:    "run `systemctl restart patchbayd`",
		})
	}
	return s, err
}

// Offloads is engine.Engine's.
func (c *remote) Offloads(ctx context.Context, sw string) ([]engine.SwitchOffload, error) {
	return ask(ctx, c, nameOffloads, args{sw}, func(v Verbs) ([]engine.SwitchOffload, error) { return v.Offloads(ctx, sw) })
}

// Topology is engine.Engine's.
func (c *remote) Topology(ctx context.Context) (engine.Topology, error) {
	return ask(ctx, c, nameTopology, args{}, func(v Verbs) (engine.Topology, error) { return v.Topology(ctx) })
}

// Apply is engine.Engine's.
func (c *remote) Apply(ctx context.Context, req engine.ApplyRequest) (engine.ConfigDiff, error) {
	return ask(ctx, c, nameApply, args{req}, func(v Verbs) (engine.ConfigDiff, error) { return v.Apply(ctx, req) })
}

// DiffConfig is engine.Engine's.
func (c *remote) DiffConfig(ctx context.Context, req engine.ApplyRequest) (engine.ConfigDiff, error) {
	return ask(ctx, c, nameDiffConfig, args{req}, func(v Verbs) (engine.ConfigDiff, error) { return v.DiffConfig(ctx, req) })
}

// Export is engine.Engine's.
func (c *remote) Export(ctx context.Context, req engine.ExportRequest) (engine.Export, error) {
	return ask(ctx, c, nameExport, args{req}, func(v Verbs) (engine.Export, error) { return v.Export(ctx, req) })
}

// Restore is engine.Engine's.
func (c *remote) Restore(ctx context.Context, req engine.RestoreRequest) (engine.RestoreReport, error) {
	return ask(ctx, c, nameRestore, args{req}, func(v Verbs) (engine.RestoreReport, error) { return v.Restore(ctx, req) })
}

// Explain is engine.Engine's.
func (c *remote) Explain(ctx context.Context, req engine.ExplainRequest) (engine.Explanation, error) {
	return ask(ctx, c, nameExplain, args{req}, func(v Verbs) (engine.Explanation, error) { return v.Explain(ctx, req) })
}

// Doctor is engine.Engine's.
func (c *remote) Doctor(ctx context.Context, req engine.DoctorRequest) (engine.Diagnosis, error) {
	return ask(ctx, c, nameDoctor, args{req}, func(v Verbs) (engine.Diagnosis, error) { return v.Doctor(ctx, req) })
}
