package sdk

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/patchbay-net/patchbay/core/vswitch"
	sdkv1 "github.com/patchbay-net/patchbay/sdk/proto/patchbay/sdk/v1"
)

// lacking is the answer of a provider without the optional interface.
func lacking(ext Extension) error {
	return &vswitch.Error{Kind: vswitch.CapabilityMissing, Err: fmt.Errorf("the plugin does not serve %s", ext)}
}

func (s *server) Probe(ctx context.Context, _ *sdkv1.ProbeRequest) (*sdkv1.ProbeResponse, error) {
	p, ok := s.provider.(Prober)
	if !ok {
		return nil, lacking(ExtProbe)
	}
	return &sdkv1.ProbeResponse{}, p.Probe(ctx)
}

func (s *server) WatchEvents(_ *sdkv1.WatchEventsRequest, out grpc.ServerStreamingServer[sdkv1.WatchEventsResponse]) error {
	p, ok := s.provider.(EventSource)
	if !ok {
		return lacking(ExtEvents)
	}
	return p.WatchEvents(out.Context(), func(e Event) error { return out.Send(&sdkv1.WatchEventsResponse{Event: toEvent(e)}) })
}

func (s *server) SwitchPath(ctx context.Context, r *sdkv1.SwitchPathRequest) (*sdkv1.SwitchPathResponse, error) {
	p, ok := s.provider.(PathSwitcher)
	if !ok {
		return nil, lacking(ExtPaths)
	}
	ref, to := Ref{r.GetPort(), featureOf(r)}, named(wirePaths(), r.GetPath())
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	if to == "" {
		return nil, &vswitch.Error{Kind: vswitch.Invalid, Object: "path", Field: "path", Err: fmt.Errorf("%d is unknown", r.GetPath())}
	}
	end, err := s.turn(ctx, ref.Port)
	if err != nil {
		return nil, err
	}
	defer end()
	return &sdkv1.SwitchPathResponse{}, p.SwitchPath(ctx, ref, to)
}

func (s *server) ReadCounters(ctx context.Context, r *sdkv1.ReadCountersRequest) (*sdkv1.ReadCountersResponse, error) {
	p, ok := s.provider.(CounterReader)
	if !ok {
		return nil, lacking(ExtCounters)
	}
	ref := Ref{r.GetPort(), featureOf(r)}
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	s.setting.RLock()
	defer s.setting.RUnlock()
	counters, err := p.Counters(ctx, ref)
	return &sdkv1.ReadCountersResponse{Counters: counters}, err
}

func featureOf(r interface{ GetFeature() string }) vswitch.Feature {
	return vswitch.Feature(r.GetFeature())
}
