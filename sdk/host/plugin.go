package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Options say which plugin is run, and how.
type Options struct {
	Executable Executable
	// Config is an object in JSON, or nothing.
	Config    json.RawMessage
	RunDir    string // below which its sockets are
	Log       *slog.Logger
	Checksums Checksums
	// Vouched says that it does not matter who could have changed the executable: a user
	// named it, to try it.
	Vouched bool
	// Resident keeps the plugin running from Open on; another one is started by the first
	// call that needs it.
	Resident bool
	Limits   Limits
	// OnChange is told every change of the status, in order; it must not block.
	OnChange func(Status)
}

func (o Options) config() []byte {
	if len(o.Config) == 0 {
		return []byte("{}")
	}
	return o.Config
}

// State is what a plugin is doing.
type State string

// The states.
const (
	Idle     State = "idle"     // not started yet
	Starting State = "starting" //
	Running  State = "running"
	Waiting  State = "waiting" // it failed, and is started again after a while
	Broken   State = "broken"  // it failed again and again; there is one try after a long while
	Closed   State = "closed"
)

// Status is what there is to know of a plugin.
type Status struct {
	Executable
	State       State            `json:"state"`
	Description *sdk.Description `json:"description,omitempty"` // of the last process that told
	PID         int              `json:"pid,omitempty"`
	Starts      int              `json:"starts"`
	Failures    int              `json:"failures"` // in a row
	LastFailure string           `json:"lastFailure,omitempty"`
	NextTry     time.Time        `json:"nextTry,omitzero"`
}

// Plugin is a vendor's plugin that is started when it is needed and again when it failed.
// It is a Provider, and has all optional interfaces; a call that the plugin does not answer
// in time or in order fails with PluginFailed.
type Plugin struct {
	o    Options
	life context.Context
	end  context.CancelFunc
	done sync.WaitGroup // of goroutines

	mu       sync.Mutex
	status   Status
	current  *instance
	starting *attempt
	back     backOff
	faults   int           // answers in a row that were late or wrong
	until    time.Time     // it is let alone; see rest
	changed  chan struct{} // closed at the next change of state
}

// Open makes a plugin of its options. It is to be closed.
func Open(o Options) *Plugin {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	p := &Plugin{o: o, back: backOff{first: o.Limits.FirstWait, most: o.Limits.MostWait}, changed: make(chan struct{})}
	p.life, p.end = context.WithCancel(context.Background())
	p.status = Status{Executable: o.Executable, State: Idle}
	if o.Resident {
		p.done.Go(p.keep)
	}
	return p
}

// Close ends the process, if there is one, and fails whoever waits for it.
func (p *Plugin) Close() {
	p.end()
	p.mu.Lock()
	i := p.current
	p.current = nil
	p.set(Closed)
	p.mu.Unlock()
	if i != nil {
		i.stop()
	}
	p.done.Wait()
}

// Status tells how the plugin is.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// set changes the state; p.mu is held.
func (p *Plugin) set(s State) {
	if p.status.State == Closed {
		return
	}
	p.status.State, p.status.Failures, p.status.NextTry = s, p.back.failures, time.Time{}
	if s == Waiting || s == Broken {
		p.status.NextTry = p.back.until
	}
	if p.status.PID = 0; p.current != nil {
		p.status.PID = p.current.pid()
	}
	close(p.changed)
	p.changed = make(chan struct{})
	if p.o.OnChange != nil {
		p.o.OnChange(p.status)
	}
}

// keep starts a resident plugin whenever it may be started.
func (p *Plugin) keep() {
	for p.life.Err() == nil {
		_, _ = p.instance(p.life) // the status says why not
		p.pause(p.life)
	}
}

// pause waits until the plugin's state is another, or until it may be started again.
func (p *Plugin) pause(ctx context.Context) {
	p.mu.Lock()
	changed, again := p.changed, p.again()
	p.mu.Unlock()
	p.wait(ctx, changed, again)
}

// pauseStopped is pause, and returns at once where there is a process.
func (p *Plugin) pauseStopped(ctx context.Context) {
	p.mu.Lock()
	running, changed, again := p.current != nil, p.changed, p.again()
	p.mu.Unlock()
	if !running {
		p.wait(ctx, changed, again)
	}
}

// again fires when the plugin may be started, where that is what it waits for; p.mu is held.
func (p *Plugin) again() <-chan time.Time {
	if p.current != nil || p.starting != nil {
		return nil
	}
	return time.After(p.back.wait(time.Now()))
}

func (p *Plugin) wait(ctx context.Context, changed <-chan struct{}, again <-chan time.Time) {
	select {
	case <-changed:
	case <-again:
	case <-ctx.Done():
	case <-p.life.Done():
	}
}

// attempt is a start that is under way, for all who wait for it.
type attempt struct {
	done     chan struct{} // closed when what follows is set
	instance *instance
	err      error
}

// instance is the process that runs, started if need be and if it may be.
func (p *Plugin) instance(ctx context.Context) (*instance, error) {
	i, a, err := p.attempt()
	if a == nil {
		return i, err
	}
	select {
	case <-a.done:
		return a.instance, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// attempt is the instance that there is, or the attempt to have one, or why there is none.
func (p *Plugin) attempt() (*instance, *attempt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.life.Err() != nil:
		return nil, nil, p.fault(errors.New("it was closed"))
	case p.current != nil:
		return p.current, nil, nil
	case p.starting != nil:
		return nil, p.starting, nil
	}
	if wait := p.back.wait(time.Now()); wait > 0 {
		return nil, nil, p.fault(fmt.Errorf("it failed %d times in a row, the last time so: %s; the next try is in %s", p.back.failures, p.status.LastFailure, wait.Round(time.Second/10)))
	}
	a := &attempt{done: make(chan struct{})}
	p.starting = a
	p.set(Starting)
	p.done.Go(func() { p.start(a) })
	return nil, a, nil
}

func (p *Plugin) start(a *attempt) {
	a.instance, a.err = launch(p.life, p.o)
	p.mu.Lock()
	p.starting = nil
	switch {
	case p.life.Err() != nil:
		if a.err == nil {
			p.done.Go(a.instance.stop)
		}
		a.instance, a.err = nil, p.fault(errors.New("it was closed"))
	case a.err != nil:
		p.failed(a.err)
	default:
		p.current, p.faults = a.instance, 0
		p.status.Description = &a.instance.description
		p.status.Starts++
		p.set(Running)
		p.o.Log.Info("plugin started", "plugin", p.o.Executable.Name, "version", a.instance.description.Version, "pid", p.status.PID)
		p.done.Go(func() { p.attend(a.instance) })
	}
	p.mu.Unlock()
	close(a.done)
}

// attend waits for the end of a process that nobody asked to end.
func (p *Plugin) attend(i *instance) {
	select {
	case <-i.exited():
		p.lose(i, fmt.Errorf("its process ended: %w", i.death()))
	case <-i.ended:
	}
}

// failed notes that the plugin has no process, and why; p.mu is held.
func (p *Plugin) failed(why error) {
	p.back.failed(time.Now())
	p.status.LastFailure = why.Error()
	state := Waiting
	if p.back.open() {
		state = Broken
	}
	p.set(state)
	p.o.Log.Error("plugin failed", "plugin", p.o.Executable.Name, "err", why, "failures", p.back.failures, "next try", p.back.wait(time.Now()).Round(time.Millisecond))
}

// lose gives an instance up.
func (p *Plugin) lose(i *instance, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != i || p.life.Err() != nil {
		return
	}
	p.current, p.until = nil, time.Time{}
	if time.Since(i.began) >= p.o.Limits.Steady {
		p.back.recovered()
	}
	p.failed(why)
	i.kill()
	p.done.Go(i.stop)
}

// lost reports whether a process is not the plugin's any more.
func (p *Plugin) lost(i *instance) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current != i
}

func (p *Plugin) fault(err error) error {
	return &vswitch.Error{
		Kind: vswitch.PluginFailed, Object: "plugin " + p.o.Executable.Name, Err: err,
		Hint: "run `patchbay plugin list`, and look at patchbayd's log",
	}
}
