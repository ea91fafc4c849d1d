package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/patchbay-net/patchbay/core/vswitch"
	sdkv1 "github.com/patchbay-net/patchbay/sdk/proto/patchbay/sdk/v1"
)

// Client is a provider at the other end of a connection. It has all optional interfaces too;
// one that the plugin does not serve fails with CapabilityMissing.
//
// It believes nothing that contradicts the contract: such an answer is an error of kind
// PluginFailed. It sets no deadlines; package host does.
type Client struct{ rpc sdkv1.ProviderServiceClient }

var _ interface {
	Provider
	Prober
	EventSource
	PathSwitcher
	CounterReader
} = Client{}

// NewClient makes a client of a connection.
func NewClient(conn grpc.ClientConnInterface) Client {
	return Client{sdkv1.NewProviderServiceClient(conn)}
}

// Describe is Provider's.
func (c Client) Describe(ctx context.Context) (Description, error) {
	answer, err := c.rpc.Describe(ctx, &sdkv1.DescribeRequest{})
	if err != nil {
		return Description{}, fromStatus("describe", err)
	}
	d, err := fromDescription(answer)
	if err != nil {
		return Description{}, err
	}
	return d, checkDescription(d)
}

// Configure is Provider's.
func (c Client) Configure(ctx context.Context, config Config) error {
	if config == nil {
		config = Config{}
	}
	data, err := json.Marshal(config)
	if err != nil {
		return &vswitch.Error{Kind: vswitch.Invalid, Op: "configure", Err: err}
	}
	_, err = c.rpc.Configure(ctx, &sdkv1.ConfigureRequest{ConfigJson: string(data)})
	return fromStatus("configure", err)
}

// WatchInventory is Provider's. A plugin that ends the call by itself has failed.
func (c Client) WatchInventory(ctx context.Context, tell func(Inventory) error) error {
	const op = "watch inventory"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.WatchInventory(ctx, &sdkv1.WatchInventoryRequest{})
	if err != nil {
		return fromStatus(op, err)
	}
	return watch(op, stream.Recv, func(in *sdkv1.WatchInventoryResponse) error {
		i := fromInventory(in)
		if err := checkInventory(i); err != nil {
			return err
		}
		return tell(i)
	})
}

func watch[M any](op string, recv func() (*M, error), tell func(*M) error) error {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return lie(op, "it ended what goes on for ever")
		}
		if err != nil {
			return fromStatus(op, err)
		}
		if err := tell(m); err != nil {
			return err
		}
	}
}

// Ensure is Provider's.
func (c Client) Ensure(ctx context.Context, r Request) (Grant, error) {
	answer, err := c.rpc.Ensure(ctx, toRequest(r))
	if err != nil {
		return Grant{}, fromStatus("ensure", err)
	}
	g := fromGrant(answer.GetGrant())
	if err := checkGranted(r, g); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// Release is Provider's.
func (c Client) Release(ctx context.Context, ref Ref, generation uint64) error {
	_, err := c.rpc.Release(ctx, &sdkv1.ReleaseRequest{Port: ref.Port, Feature: string(ref.Feature), Generation: generation})
	return fromStatus("release", err)
}

// Grants is Provider's.
func (c Client) Grants(ctx context.Context) ([]Grant, error) {
	answer, err := c.rpc.ListGrants(ctx, &sdkv1.ListGrantsRequest{})
	if err != nil {
		return nil, fromStatus("list grants", err)
	}
	var grants []Grant
	for _, g := range answer.GetGrants() {
		grants = append(grants, fromGrant(g))
	}
	if err := checkGrants(grants); err != nil {
		return nil, err
	}
	return grants, nil
}

// Probe is Prober's.
func (c Client) Probe(ctx context.Context) error {
	_, err := c.rpc.Probe(ctx, &sdkv1.ProbeRequest{})
	return fromStatus("probe", err)
}

// WatchEvents is EventSource's. Kinds of events that this build does not know are left out.
func (c Client) WatchEvents(ctx context.Context, tell func(Event) error) error {
	const op = "watch events"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.WatchEvents(ctx, &sdkv1.WatchEventsRequest{})
	if err != nil {
		return fromStatus(op, err)
	}
	return watch(op, stream.Recv, func(in *sdkv1.WatchEventsResponse) error {
		e := fromEvent(in.GetEvent())
		if e.Kind == "" {
			return nil
		}
		if err := checkEvent(e); err != nil {
			return err
		}
		return tell(e)
	})
}

// SwitchPath is PathSwitcher's.
func (c Client) SwitchPath(ctx context.Context, ref Ref, to Path) error {
	_, err := c.rpc.SwitchPath(ctx, &sdkv1.SwitchPathRequest{Port: ref.Port, Feature: string(ref.Feature), Path: wirePaths()[to]})
	return fromStatus("switch path", err)
}

// Counters is CounterReader's.
func (c Client) Counters(ctx context.Context, ref Ref) (map[string]uint64, error) {
	answer, err := c.rpc.ReadCounters(ctx, &sdkv1.ReadCountersRequest{Port: ref.Port, Feature: string(ref.Feature)})
	if err != nil {
		return nil, fromStatus("read counters", err)
	}
	return answer.GetCounters(), checkCounters(answer.GetCounters())
}
