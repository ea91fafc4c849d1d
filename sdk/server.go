package sdk

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	sdkv1 "github.com/patchbay-net/patchbay/sdk/proto/patchbay/sdk/v1"
)

// Register serves a provider on a gRPC server that NewServer made. Serve does both; this is
// for hosts that run a provider in their own process.
func Register(s grpc.ServiceRegistrar, p Provider) {
	sdkv1.RegisterProviderServiceServer(s, &server{provider: p})
}

// server is a provider as the protocol sees it.
type server struct {
	sdkv1.UnimplementedProviderServiceServer
	provider Provider
	setting  sync.RWMutex // held by Configure alone
	ports    turns

	mu     sync.Mutex
	schema *Schema // once it was asked for
}

func (s *server) Describe(ctx context.Context, _ *sdkv1.DescribeRequest) (*sdkv1.DescribeResponse, error) {
	d, err := s.provider.Describe(ctx)
	if err != nil {
		return nil, err
	}
	d.Extensions = extensionsOf(s.provider)
	if err := checkDescription(d); err != nil {
		return nil, err
	}
	return toDescription(d)
}

func (s *server) Configure(ctx context.Context, r *sdkv1.ConfigureRequest) (*sdkv1.ConfigureResponse, error) {
	schema, err := s.declared(ctx)
	if err != nil {
		return nil, err
	}
	config, err := schema.Parse([]byte(r.GetConfigJson()))
	if err != nil {
		return nil, err
	}
	s.setting.Lock()
	defer s.setting.Unlock()
	return &sdkv1.ConfigureResponse{}, s.provider.Configure(ctx, config)
}

func (s *server) declared(ctx context.Context) (Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.schema == nil {
		d, err := s.provider.Describe(ctx)
		if err != nil {
			return nil, err
		}
		s.schema = &d.Schema
	}
	return *s.schema, nil
}

func (s *server) WatchInventory(_ *sdkv1.WatchInventoryRequest, out grpc.ServerStreamingServer[sdkv1.WatchInventoryResponse]) error {
	return s.provider.WatchInventory(out.Context(), func(i Inventory) error { return out.Send(toInventory(i)) })
}

// turn is a call's that changes what one port has.
func (s *server) turn(ctx context.Context, port string) (end func(), err error) {
	give, err := s.ports.take(ctx, port)
	if err != nil {
		return nil, err
	}
	s.setting.RLock()
	return func() {
		s.setting.RUnlock()
		give()
	}, nil
}

func (s *server) Ensure(ctx context.Context, r *sdkv1.EnsureRequest) (*sdkv1.EnsureResponse, error) {
	request, err := fromRequest(r)
	if err != nil {
		return nil, err
	}
	end, err := s.turn(ctx, request.Port)
	if err != nil {
		return nil, err
	}
	defer end()
	grant, err := s.provider.Ensure(ctx, request)
	if err != nil {
		return nil, err
	}
	return &sdkv1.EnsureResponse{Grant: toGrant(grant)}, nil
}

func (s *server) Release(ctx context.Context, r *sdkv1.ReleaseRequest) (*sdkv1.ReleaseResponse, error) {
	ref := Ref{r.GetPort(), featureOf(r)}
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	end, err := s.turn(ctx, ref.Port)
	if err != nil {
		return nil, err
	}
	defer end()
	return &sdkv1.ReleaseResponse{}, s.provider.Release(ctx, ref, r.GetGeneration())
}

func (s *server) ListGrants(ctx context.Context, _ *sdkv1.ListGrantsRequest) (*sdkv1.ListGrantsResponse, error) {
	s.setting.RLock()
	defer s.setting.RUnlock()
	grants, err := s.provider.Grants(ctx)
	if err != nil {
		return nil, err
	}
	out := &sdkv1.ListGrantsResponse{}
	for _, g := range grants {
		out.Grants = append(out.Grants, toGrant(g))
	}
	return out, nil
}
