package main

import (
	"errors"
	"fmt"

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
	case vswitch.UplinkNotFound, vswitch.UplinkInUse, vswitch.UplinkUnsupported:
		return codeUplink
	case vswitch.SwitchFull:
		return codeFull
	case vswitch.KernelFailed, vswitch.AlreadyExists:
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

func decoding(err error) error {
	return types.NewError(types.ErrDecodingFailure, "the configuration cannot be decoded: "+err.Error(), "")
}
