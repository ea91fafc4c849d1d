package conformance

import (
	"context"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

// Target is a plugin that can be started again and again.
type Target interface {
	// start starts it with a configuration.
	start(ctx context.Context, config []byte) (session, error)
}

// plugin is a provider with all optional interfaces.
type plugin interface {
	sdk.Provider
	sdk.Prober
	sdk.EventSource
	sdk.PathSwitcher
	sdk.CounterReader
}

// session is a plugin that runs.
type session interface {
	plugin
	// pid is its process's, 0 where it has none of its own.
	pid() int
	// failure is what it did besides answering; "" for nothing.
	failure() string
	// stop ends it; crash ends it without warning.
	stop()
	crash()
}

// InMemory is a provider in this process, behind the same protocol. Each start makes a new
// one: what it has to know after a restart it has to find on the hardware.
func InMemory(provider func() sdk.Provider) Target { return inMemory(provider) }

type inMemory func() sdk.Provider

func (t inMemory) start(ctx context.Context, config []byte) (session, error) {
	p := t()
	client, shut, err := host.InMemory(p, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return nil, err
	}
	s := memorySession{client, func() {
		shut()
		if c, ok := p.(io.Closer); ok {
			_ = c.Close() // it is of no interest any more
		}
	}}
	if err := configure(ctx, client, config); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func configure(ctx context.Context, p sdk.Provider, config []byte) error {
	d, err := p.Describe(ctx)
	if err != nil {
		return err
	}
	parsed, err := d.Schema.Parse(config)
	if err != nil {
		return err
	}
	return p.Configure(ctx, parsed)
}

type memorySession struct {
	sdk.Client
	shut func()
}

func (s memorySession) pid() int        { return 0 }
func (s memorySession) failure() string { return "" }
func (s memorySession) stop()           { s.shut() }
func (s memorySession) crash()          { s.shut() }

// Program is a plugin's executable. log gets what it logs; nil for nobody.
func Program(path string, log *slog.Logger) (Target, error) {
	return ProgramWithin(path, host.DefaultLimits(), log)
}

// ProgramWithin is Program with other limits than patchbayd's: an emulated machine may take
// longer.
func ProgramWithin(path string, limits host.Limits, log *slog.Logger) (Target, error) {
	e, err := host.ExecutableAt(path)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return program{e, limits, log}, nil
}

type program struct {
	executable host.Executable
	limits     host.Limits
	log        *slog.Logger
}

func (t program) start(ctx context.Context, config []byte) (session, error) {
	dir, err := os.MkdirTemp("", "patchbay") // short: paths of sockets are
	if err != nil {
		return nil, &vswitch.Error{Kind: vswitch.StoreUnavailable, Err: err}
	}
	s := programSession{host.Open(host.Options{Executable: t.executable, Config: config, RunDir: dir, Log: t.log, Vouched: true, Limits: t.limits}), dir}
	if _, err := s.Describe(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

type programSession struct {
	*host.Plugin
	dir string
}

func (s programSession) pid() int { return s.Status().PID }

func (s programSession) failure() string { return s.Status().LastFailure }

func (s programSession) stop() {
	s.Close()
	_ = os.RemoveAll(s.dir) // of a directory of our own
}

func (s programSession) crash() {
	if pid := s.pid(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // gone is as good
	}
	s.stop()
}
