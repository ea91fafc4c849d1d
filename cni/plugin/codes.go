package plugin

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// codeNotAvailable is the specification's answer of STATUS when ADD cannot be
// served; the library has no name for it.
const codeNotAvailable uint = 50

// Codes of our own; the specification leaves 100 and up to plugins.
const (
	codeKernel     uint = 100 // the kernel refused a step
	codeCapability uint = 101 // this kernel or NIC lacks what was asked for
	codeUplink     uint = 102 // the uplink is missing, in use or unfit
	codeFull       uint = 103 // no port is left on the switch
	codeDrift      uint = 104 // CHECK: the kernel is not as it should be
	codeDelegate   uint = 105 // another IPAM plugin failed and did not say how
)

// code maps a kind to the specification's codes where it has one.
func code(kind vswitch.Kind) uint {
	switch kind {
	case vswitch.NetnsNotFound:
		return types.ErrUnknownContainer
	case vswitch.EndpointExists:
		return types.ErrInvalidEnvironmentVariables
	case vswitch.StoreCorrupt, vswitch.StoreNewer, vswitch.StoreUnavailable:
		return types.ErrIOFailure
	case vswitch.MACPoolExhausted, vswitch.IPPoolExhausted:
		return types.ErrTryAgainLater
	case vswitch.CapabilityMissing:
		return codeCapability
	case vswitch.UplinkNotFound, vswitch.UplinkInUse, vswitch.UplinkUnsupported, vswitch.NoCarrier,
		vswitch.TeamMember, vswitch.TeamDegraded:
		return codeUplink
	case vswitch.SwitchFull:
		return codeFull
	case vswitch.Drifted:
		return codeDrift
	case vswitch.KernelFailed, vswitch.AlreadyExists, vswitch.PluginFailed, vswitch.PluginUntrusted:
		return codeKernel
	}
	return types.ErrInvalidNetworkConfig
}

// cniError makes any error one that the specification knows: message, and the
// hint as details. Nil stays nil.
func cniError(err error) error {
	if err == nil {
		return nil
	}
	return asCNI(err)
}

func asCNI(err error) *types.Error {
	var e *types.Error
	if errors.As(err, &e) {
		return e
	}
	kind := vswitch.KindOf(err)
	var v *vswitch.Error
	if errors.As(err, &v) && v.Hint != "" {
		bare := *v
		bare.Hint = ""
		return types.NewError(code(kind), fmt.Sprintf("%s (%s)", bare.Error(), string(kind)), v.Hint)
	}
	return types.NewError(code(kind), fmt.Sprintf("%s (%s)", err, string(kind)), "")
}

// joined is one CNI error of several: the first one's code, everybody's words.
func joined(errs ...error) error {
	var first *types.Error
	for _, err := range errs {
		if err == nil {
			continue
		}
		e := asCNI(err)
		if first == nil {
			copied := *e
			first = &copied
			continue
		}
		first.Msg += "; " + e.Msg
		first.Details = strings.TrimPrefix(first.Details+"; "+e.Details, "; ")
	}
	if first == nil {
		return nil
	}
	first.Details = strings.TrimSuffix(first.Details, "; ")
	return first
}
