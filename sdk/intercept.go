package sdk

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// requestHeader carries the id of what the host is doing, so that its log and the plugin's
// can be laid side by side.
const requestHeader = "patchbay-request"

// NewServer is a gRPC server as providers are served: errors keep kind, cause and hint, a
// panic is an error of one call and not the end of the process, and messages are bounded.
func NewServer(log *slog.Logger, options []grpc.ServerOption) *grpc.Server {
	i := interceptor{log}
	return grpc.NewServer(append(options,
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.ChainUnaryInterceptor(i.unary), grpc.ChainStreamInterceptor(i.stream),
	)...)
}

type interceptor struct{ log *slog.Logger }

func (i interceptor) unary(ctx context.Context, r any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	ctx = i.tagged(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = i.panicked(ctx, info.FullMethod, p)
		}
		err = toStatus(err)
	}()
	return next(ctx, r)
}

func (i interceptor) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	ctx := i.tagged(s.Context())
	defer func() {
		if p := recover(); p != nil {
			err = i.panicked(ctx, info.FullMethod, p)
		}
		err = toStatus(err)
	}()
	return next(srv, taggedStream{s, ctx})
}

type taggedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // it is what the stream's Context returns
}

func (s taggedStream) Context() context.Context { return s.ctx }

func (i interceptor) panicked(ctx context.Context, method string, p any) error {
	Log(ctx).Error("panic", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return &vswitch.Error{
		Kind: vswitch.PluginFailed, Err: fmt.Errorf("the plugin panicked: %.200v", p),
		Hint: "report it to the plugin's vendor, with patchbayd's log, which has the stack",
	}
}

// tagged puts the call's logger in its context.
func (i interceptor) tagged(ctx context.Context) context.Context {
	log := i.log
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if id := md.Get(requestHeader); len(id) == 1 {
			log = log.With("request", id[0])
		}
	}
	return context.WithValue(ctx, logKey{}, log)
}

type logKey struct{}

// Log is where a provider's method logs to: its lines come into patchbayd's log, with the
// request that they belong to. Outside a call it is the default logger.
func Log(ctx context.Context) *slog.Logger {
	if log, ok := ctx.Value(logKey{}).(*slog.Logger); ok {
		return log
	}
	return slog.Default()
}

// WithRequest names what the host does in its calls to a plugin.
func WithRequest(ctx context.Context, id string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, requestHeader, id)
}
