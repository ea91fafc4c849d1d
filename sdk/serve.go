package sdk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// What host and plugin agree on before they speak the protocol.
const (
	// ProtocolVersion is the greatest version of the protocol that this SDK speaks: proto
	// package patchbay.sdk.vN.
	ProtocolVersion = 1
	// CookieKey and CookieValue are in the environment of a plugin that Patchbay starts, so
	// that one started by hand can say what it is.
	CookieKey   = "PATCHBAY_PLUGIN"
	CookieValue = "8f3c0cc6-provider"
	// PluginName is what go-plugin calls the one thing that a plugin serves.
	PluginName = "provider"
	// ExecutablePrefix begins the name of every plugin's executable.
	ExecutablePrefix = "patchbay-plugin-"
)

// closeTime is what a provider has to close before it is killed.
const closeTime = time.Second

// Serve is a plugin's main function: it serves the provider to Patchbay, which started the
// program, until it is told to end. It does not return.
func Serve(p Provider) {
	if os.Getenv(CookieKey) != CookieValue {
		explain(os.Stderr, os.Args[0])
		os.Exit(1)
	}
	log := pluginLog(os.Stderr)
	slog.SetDefault(log)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: CookieKey, MagicCookieValue: CookieValue},
		VersionedPlugins: map[int]plugin.PluginSet{ProtocolVersion: {PluginName: served{provider: p}}},
		GRPCServer:       func(options []grpc.ServerOption) *grpc.Server { return NewServer(log, options) },
		// What go-plugin itself has to say is of no use to anybody but who debugs it.
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr, JSONFormat: true}),
	})
	if c, ok := p.(io.Closer); ok {
		closeInTime(c, log)
	}
	os.Exit(0)
}

func closeInTime(c io.Closer, log *slog.Logger) {
	done := make(chan error, 1)
	go func() { done <- c.Close() }()
	select {
	case err := <-done:
		if err != nil {
			log.Error("close", "err", err)
		}
	case <-time.After(closeTime):
		log.Error("close took too long", "limit", closeTime)
	}
}

// explain tells who runs a plugin by hand what to do instead.
func explain(w io.Writer, path string) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	text := fmt.Sprintf(`This is a plugin of Patchbay, which starts it by itself. By hand:

    patchbay plugin check %[1]s    try whether it does all that it must
    patchbay plugin run %[1]s      call it
`, path)
	_, _ = io.WriteString(w, text) // there is nowhere left to say so
}

// served is a provider as go-plugin sees it.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	provider Provider
}

// GRPCServer registers the provider.
func (s served) GRPCServer(_ *plugin.GRPCBroker, g *grpc.Server) error {
	Register(g, s.provider)
	return nil
}

// GRPCClient is what the host gets.
func (s served) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}

// HostPlugins is what a host asks go-plugin for.
func HostPlugins() map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{ProtocolVersion: {PluginName: served{}}}
}
