package plugin

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// runtimeBandwidth is the capability "bandwidth" as the reference plugin has it: bits a
// second and bits, ingress being what the container receives.
type runtimeBandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// anyBurst is what runtimes fill in for a burst that nobody has asked for, or less: 256 MB
// at once, before any limit is felt. It is taken for none.
const anyBurst = math.MaxInt32

// parseBandwidth reads the key and what the runtime says, which wins.
func (c *config) parseBandwidth(raw json.RawMessage) error {
	b := &c.Policy.Bandwidth
	if err := c.parseBandwidthKey(raw); err != nil {
		return err
	}
	r := c.Runtime.Bandwidth
	for _, way := range []struct {
		key                string
		rate, burst        uint64
		intoMax, intoBurst **vswitch.Bits
	}{
		{"ingress", r.IngressRate, r.IngressBurst, &b.In.Max, &b.In.Burst},
		{"egress", r.EgressRate, r.EgressBurst, &b.Out.Max, &b.Out.Burst},
	} {
		if way.rate == 0 && (way.burst == 0 || way.burst >= anyBurst) {
			continue
		}
		if way.rate == 0 {
			return types.NewError(types.ErrInvalidNetworkConfig,
				fmt.Sprintf("runtimeConfig.bandwidth has %sBurst %d and no %sRate", way.key, way.burst, way.key), "give the rate too, or leave the burst out")
		}
		*way.intoMax, *way.intoBurst = bitsOf(way.rate), nil
		if way.burst != 0 && way.burst < anyBurst {
			*way.intoBurst = bitsOf(way.burst)
		}
	}
	return nil
}

// parseBandwidthKey reads the key, which has the form that it has in YAML.
func (c *config) parseBandwidthKey(raw json.RawMessage) error {
	if isNull(raw) {
		return nil
	}
	var keys struct {
		In  json.RawMessage `json:"in"`
		Out json.RawMessage `json:"out"`
		Min json.RawMessage `json:"min"`
	}
	if err := strict("bandwidth", raw, &keys); err != nil {
		return err
	}
	b := &c.Policy.Bandwidth
	for _, part := range []struct {
		key  string
		raw  json.RawMessage
		into any
	}{{"bandwidth.in", keys.In, &b.In}, {"bandwidth.out", keys.Out, &b.Out}, {"bandwidth.min", keys.Min, &b.Min}} {
		if isNull(part.raw) {
			continue
		}
		if err := strict(part.key, part.raw, part.into); err != nil {
			return err
		}
	}
	return nil
}

// bitsOf takes any number; what is out of range the engine refuses.
func bitsOf(n uint64) *vswitch.Bits {
	b := vswitch.Bits(min(n, math.MaxInt64-8)).Rounded()
	return &b
}
