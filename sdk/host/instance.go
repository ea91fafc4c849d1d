package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// instance is one process of a plugin and the connection to it.
type instance struct {
	client      sdk.Client
	conn        *grpc.ClientConn
	description sdk.Description
	began       time.Time

	plugin  *plugin.Client
	dir     string // its sockets'; of nobody else
	limits  Limits
	ending  sync.Once
	ended   chan struct{} // closed when nothing of it is left
	mu      sync.Mutex
	process *process
}

// launch starts a process, connects to it and configures it. What it started is gone again
// if that fails, or if ctx ends before.
func launch(ctx context.Context, o Options) (*instance, error) {
	file, err := o.Executable.open(o.Checksums, o.Vouched)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // the process has its own
	i := &instance{limits: o.Limits, ended: make(chan struct{}), began: time.Now()}
	if i.dir, err = socketDir(o.RunDir, o.Executable.Name); err != nil {
		return nil, err
	}
	i.plugin = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: sdk.CookieKey, MagicCookieValue: sdk.CookieValue},
		VersionedPlugins: sdk.HostPlugins(),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     2 * o.Limits.Start, // greet comes before
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: i.dir},
		Logger:           newLog(o.Log, o.Executable.Name),
		SyncStdout:       newPrinted(o.Log, o.Executable.Name, "stdout"),
		SyncStderr:       newPrinted(o.Log, o.Executable.Name, "stderr"),
		GRPCDialOptions:  dialOptions(),
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, socketDir string) (runner.Runner, error) {
			p, err := newProcess(o.Executable.Name, file, cmd.Env, socketDir)
			i.mu.Lock()
			defer i.mu.Unlock()
			i.process = p
			return p, err
		},
	})
	cancelled := context.AfterFunc(ctx, i.kill)
	defer cancelled()
	if err := i.greet(ctx, o); err != nil {
		i.kill()
		i.stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return i, nil
}

// socketDir makes a directory for one process's sockets.
func socketDir(runDir, name string) (string, error) {
	parent := filepath.Join(runDir, "plugins")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", &vswitch.Error{Kind: vswitch.StoreUnavailable, Object: parent, Err: err}
	}
	dir, err := os.MkdirTemp(parent, name+"-")
	if err != nil {
		return "", &vswitch.Error{Kind: vswitch.StoreUnavailable, Object: parent, Err: err}
	}
	return dir, nil
}

// greet makes the connection, and asks who is there.
func (i *instance) greet(ctx context.Context, o Options) error {
	failed := func(err error) error {
		return &vswitch.Error{
			Kind: vswitch.PluginFailed, Op: "start plugin", Object: o.Executable.Name, Err: err,
			Hint: "run `patchbay plugin check " + o.Executable.Path + "`",
		}
	}
	// go-plugin's own limit ends when there is an address, of which it waits for an answer.
	late := time.AfterFunc(o.Limits.Start, i.kill)
	protocol, err := i.plugin.Client()
	if !late.Stop() {
		err = fmt.Errorf("there was no connection to it within %s", o.Limits.Start)
	}
	if err != nil {
		return failed(err)
	}
	connected, ok := protocol.(*plugin.GRPCClient)
	if !ok {
		return failed(errors.New("it does not speak gRPC"))
	}
	i.conn = connected.Conn
	i.client = sdk.NewClient(i.conn)
	ctx, cancel := context.WithTimeout(ctx, o.Limits.Start)
	defer cancel()
	if i.description, err = i.client.Describe(ctx); err != nil {
		return failed(err)
	}
	if i.description.Name != o.Executable.Name {
		return failed(fmt.Errorf("it says that it is %q; its file must be named %s%s then", i.description.Name, sdk.ExecutablePrefix, i.description.Name))
	}
	config, err := i.description.Schema.Parse(o.config())
	if err != nil {
		return &vswitch.Error{Kind: vswitch.Invalid, Op: "configure plugin", Object: o.Executable.Name, Err: err}
	}
	if err := i.client.Configure(ctx, config); err != nil {
		return failed(err)
	}
	return nil
}

// healthy asks the process whether it is well, which costs it nothing.
func (i *instance) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, i.limits.Stop)
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(i.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
	if err == nil && answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		err = fmt.Errorf("it is %s", answer.GetStatus())
	}
	return err
}

// exited is closed when the process has ended by itself or was ended.
func (i *instance) exited() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.process.exited
}

// death is what the process ended with, once it has.
func (i *instance) death() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.process.ended == nil {
		return errors.New("exit status 0")
	}
	return i.process.ended
}

func (i *instance) pid() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.process.pid()
}

// kill ends the process at once.
func (i *instance) kill() {
	i.mu.Lock()
	p := i.process
	i.mu.Unlock()
	if p != nil {
		_ = p.Kill(context.Background()) // it never fails
	}
}

// stop asks the process to end, ends it if it does not, and removes what is left. It
// returns when all that is done; it may be called twice.
func (i *instance) stop() {
	i.ending.Do(func() {
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			i.plugin.Kill() // it asks, waits for two seconds, and kills; or waits for ever for an answer
		}()
		select {
		case <-asked:
		case <-time.After(i.limits.Stop):
			i.kill()
			<-asked
		}
		if i.conn != nil {
			_ = i.conn.Close() // nothing is behind it
		}
		_ = os.RemoveAll(i.dir) // of a directory of our own that is empty by now
		close(i.ended)
	})
	<-i.ended
}

// printed takes what a plugin prints where nothing should be printed.
type printed struct {
	log     *slog.Logger
	stream  string
	allowed budget // of pieces
	volume  budget // of bytes
}

func newPrinted(log *slog.Logger, plugin, stream string) *printed {
	return &printed{
		log.With("plugin", plugin), stream,
		budget{perSecond: linesPerSecond, most: burstLines, left: burstLines},
		budget{perSecond: bytesPerSecond, most: bytesPerSecond, left: bytesPerSecond},
	}
}

// Write logs a piece of it, if there were not too many lately.
func (p *printed) Write(data []byte) (int, error) {
	if wait := p.volume.owe(time.Now(), float64(len(data))); wait > 0 {
		<-time.After(wait) // and the plugin with us, once the stream is full
	}
	if p.allowed.take(time.Now()) {
		p.log.Debug(text(string(data[:min(len(data), longestMessage)])), "printed to", p.stream)
	}
	return len(data), nil
}
