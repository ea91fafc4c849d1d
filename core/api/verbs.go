package api

import (
	"context"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Verbs is everything that a face can ask for. The contracts stand at the
// engine's methods. A verb that is added here needs a line in served, and a method
// of remote.
type Verbs interface {
	Attach(context.Context, engine.AttachRequest) (engine.Attachment, error)
	Detach(context.Context, vswitch.Owner) error
	DeletePort(ctx context.Context, name string) error
	CanAttach(ctx context.Context, name string, define *vswitch.Switch) error
	Check(context.Context, vswitch.Owner) (engine.Check, error)
	Attached(context.Context, vswitch.Owner) (p vswitch.Port, found bool, err error)
	GC(context.Context, engine.GCRequest) (engine.GCReport, error)

	ReservePort(context.Context, engine.ReservePortRequest) (vswitch.Port, error)
	BindPort(context.Context, engine.BindPortRequest) (vswitch.Port, error)
	BindPorts(context.Context, []engine.BindPortRequest) ([]vswitch.Port, error)
	ReleasePort(context.Context, vswitch.Owner) error
	ReleaseDomain(ctx context.Context, id string) error
	ExpectDomain(context.Context, engine.ExpectDomainRequest) error
	MakeTap(context.Context, engine.TapRequest) error
	DeleteTap(context.Context, engine.TapRequest) error
	ActivateDomain(ctx context.Context, id string) ([]vswitch.Port, error)
	ExportDomain(ctx context.Context, id string) (engine.DomainState, error)

	AddSwitch(context.Context, engine.AddSwitchRequest) (engine.SwitchStatus, error)
	SetSwitch(ctx context.Context, name string, c engine.SwitchChange) (engine.SwitchStatus, error)
	DeleteSwitch(context.Context, engine.DeleteSwitchRequest) (engine.DeleteSwitchReport, error)
	Switch(ctx context.Context, name string) (engine.SwitchStatus, error)
	Switches(context.Context) ([]engine.SwitchStatus, error)

	AddTeam(context.Context, vswitch.Team) (engine.TeamStatus, error)
	SetTeam(ctx context.Context, name string, c engine.TeamChange) (engine.TeamStatus, error)
	DeleteTeam(ctx context.Context, name string, force bool) error
	Team(ctx context.Context, name string) (engine.TeamStatus, error)
	Teams(context.Context) ([]engine.TeamStatus, error)

	Ports(ctx context.Context, sw string) ([]vswitch.Port, error)
	Port(ctx context.Context, name string) (engine.PortStatus, error)
	SetPort(ctx context.Context, name string, c engine.PortChange) (engine.PortStatus, error)
	PortACL(ctx context.Context, name string) ([]engine.ACLEntry, error)
	Offloads(ctx context.Context, sw string) ([]engine.SwitchOffload, error)
	PortStats(context.Context, engine.PortStatsRequest) ([]engine.PortStats, error)
	MACPool(context.Context) (engine.PoolStatus, error)
	SetMACPool(context.Context, vswitch.MACRange) (engine.PoolStatus, error)
	MACs(context.Context) ([]engine.MACLease, error)
	HoldMAC(context.Context, engine.HoldMACRequest) (vswitch.MACHold, error)
	ReleaseMAC(context.Context, engine.ReleaseMACRequest) ([]vswitch.MACHold, error)
	VFPool(ctx context.Context, sw string) (engine.VFPool, error)
	DefineNetwork(context.Context, engine.DefineNetworkRequest) (engine.DefinedNetwork, error)
	Status(context.Context) (engine.Status, error)
	Topology(context.Context) (engine.Topology, error)

	Apply(context.Context, engine.ApplyRequest) (engine.ConfigDiff, error)
	DiffConfig(context.Context, engine.ApplyRequest) (engine.ConfigDiff, error)
	Export(context.Context, engine.ExportRequest) (engine.Export, error)
	Restore(context.Context, engine.RestoreRequest) (engine.RestoreReport, error)
	Explain(context.Context, engine.ExplainRequest) (engine.Explanation, error)
	Doctor(context.Context, engine.DoctorRequest) (engine.Diagnosis, error)
}

var _ Verbs = (*engine.Engine)(nil)

// Names of verbs on the wire. They are a verb's name for good: clients of other
// builds do not get as far as to use them, but logs and tests do.
const (
	nameAttach       = "attach"
	nameDetach       = "detach"
	nameDeletePort   = "port delete"
	nameCanAttach    = "can attach"
	nameCheck        = "check"
	nameAttached     = "attached"
	nameGC           = "gc"
	nameReservePort  = "port reserve"
	nameBindPort     = "port bind"
	nameBindPorts    = "port bind all"
	nameReleasePort  = "port release"
	nameReleaseVM    = "domain release"
	nameExpectVM     = "domain expect"
	nameActivateVM   = "domain activate"
	nameExportVM     = "domain export"
	nameAddSwitch    = "switch add"
	nameSetSwitch    = "switch set"
	nameDeleteSwitch = "switch delete"
	nameSwitch       = "switch show"
	nameSwitches     = "switch list"
	nameAddTeam      = "team add"
	nameSetTeam      = "team set"
	nameDeleteTeam   = "team delete"
	nameTeam         = "team show"
	nameTeams        = "team list"
	namePorts        = "port list"
	namePort         = "port show"
	nameSetPort      = "port set"
	namePortACL      = "port acl list"
	nameOffloads     = "offload list"
	namePortStats    = "port stats"
	nameMACPool      = "mac pool show"
	nameSetMACPool   = "mac pool set"
	nameMACs         = "mac list"
	nameHoldMAC      = "mac hold"
	nameReleaseMAC   = "mac release"
	nameMakeTap      = "tap make"
	nameDeleteTap    = "tap delete"
	nameVFPool       = "vf pool"
	nameDefineNet    = "network define"
	nameStatus       = "status"
	nameTopology     = "topology"
	nameApply        = "apply"
	nameDiffConfig   = "diff"
	nameExport       = "export"
	nameRestore      = "restore"
	nameExplain      = "explain"
	nameDoctor       = "doctor"

	namePlugin = "plugin" // a call of the CNI plugin, which uses verbs
	nameHook   = "hook"   // a call of the libvirt hook, likewise
)

// served is what patchbayd carries out: a line for each verb.
func served() map[string]verb {
	return map[string]verb{
		nameAttach:       changes(one(Verbs.Attach)),
		nameDetach:       changes(oneQuiet(Verbs.Detach)),
		nameDeletePort:   changes(oneQuiet(Verbs.DeletePort)),
		nameCanAttach:    changes(twoQuiet(Verbs.CanAttach)), // it tries whether it could write
		nameCheck:        one(Verbs.Check),
		nameAttached:     one(attached),
		nameGC:           changes(one(Verbs.GC)),
		nameReservePort:  changes(one(Verbs.ReservePort)),
		nameBindPort:     changes(one(Verbs.BindPort)),
		nameBindPorts:    changes(one(Verbs.BindPorts)),
		nameReleasePort:  changes(oneQuiet(Verbs.ReleasePort)),
		nameReleaseVM:    changes(oneQuiet(Verbs.ReleaseDomain)),
		nameExpectVM:     changes(oneQuiet(Verbs.ExpectDomain)),
		nameActivateVM:   changes(one(Verbs.ActivateDomain)),
		nameExportVM:     one(Verbs.ExportDomain),
		nameAddSwitch:    changes(one(Verbs.AddSwitch)),
		nameSetSwitch:    changes(two(Verbs.SetSwitch)),
		nameDeleteSwitch: changes(one(Verbs.DeleteSwitch)),
		nameSwitch:       one(Verbs.Switch),
		nameSwitches:     none(Verbs.Switches),
		nameAddTeam:      changes(one(Verbs.AddTeam)),
		nameSetTeam:      changes(two(Verbs.SetTeam)),
		nameDeleteTeam:   changes(twoQuiet(Verbs.DeleteTeam)),
		nameTeam:         one(Verbs.Team),
		nameTeams:        none(Verbs.Teams),
		namePorts:        one(Verbs.Ports),
		namePort:         one(Verbs.Port),
		nameSetPort:      changes(two(Verbs.SetPort)),
		namePortACL:      one(Verbs.PortACL),
		nameOffloads:     one(Verbs.Offloads),
		namePortStats:    one(Verbs.PortStats),
		nameMACPool:      none(Verbs.MACPool),
		nameSetMACPool:   changes(one(Verbs.SetMACPool)),
		nameMACs:         none(Verbs.MACs),
		nameHoldMAC:      changes(one(Verbs.HoldMAC)),
		nameReleaseMAC:   changes(one(Verbs.ReleaseMAC)),
		nameMakeTap:      changes(oneQuiet(Verbs.MakeTap)),
		nameDeleteTap:    changes(oneQuiet(Verbs.DeleteTap)),
		nameVFPool:       one(Verbs.VFPool),
		nameDefineNet:    changes(one(Verbs.DefineNetwork)),
		nameStatus:       none(Verbs.Status),
		nameTopology:     none(Verbs.Topology),
		nameApply:        changes(one(Verbs.Apply)),
		nameDiffConfig:   changes(one(Verbs.DiffConfig)), // it tries what it could write
		nameExport:       one(Verbs.Export),
		nameRestore:      changes(one(Verbs.Restore)),
		nameExplain:      one(Verbs.Explain),
		nameDoctor:       one(Verbs.Doctor),
	}
}

// foundPort is Attached's answer.
type foundPort struct {
	Port  vswitch.Port `json:"port"`
	Found bool         `json:"found"`
}

func attached(v Verbs, ctx context.Context, owner vswitch.Owner) (f foundPort, err error) {
	f.Port, f.Found, err = v.Attached(ctx, owner)
	return f, err
}
