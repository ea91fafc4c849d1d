package host

import (
	"context"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/patchbay-net/patchbay/sdk"
)

// InMemory serves a provider to the caller's own process, over the same protocol as one in a
// process of its own: tests need neither root nor a program. The connection is good until
// close is called.
func InMemory(p sdk.Provider, log *slog.Logger) (client sdk.Client, shut func(), err error) {
	const buffer = 64 << 10
	l := bufconn.Listen(buffer)
	server := sdk.NewServer(log, nil)
	sdk.Register(server, p)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // it ends with Stop
	}()
	conn, err := grpc.NewClient("passthrough:///memory", append(dialOptions(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		server.Stop()
		return sdk.Client{}, nil, err
	}
	return sdk.NewClient(conn), func() {
		_ = conn.Close() // nothing is behind it any more
		server.Stop()
		<-done
	}, nil
}

// dialOptions bound what comes from a plugin.
func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(sdk.MaxMessage), grpc.MaxCallSendMsgSize(sdk.MaxMessage))}
}
