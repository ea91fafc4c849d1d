package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

// record is a log that can be read while it is written.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(data []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(data)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// lab runs plugins with bad habits, and demands that nothing of them is left.
type lab struct {
	t       *testing.T
	dir     string
	log     *record
	changes chan host.Status
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, _ := filepath.Glob(dir + "/run/plugins/*")
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return &lab{t: t, dir: dir, log: &record{}, changes: make(chan host.Status, 1000)}
}

// patient are limits that a busy machine does not reach.
func patient() host.Limits {
	return host.Limits{
		Start: time.Minute, Read: time.Minute, Change: time.Minute, Stop: 3 * time.Second,
		FirstWait: 10 * time.Millisecond, MostWait: time.Hour, Steady: time.Hour,
	}
}

func (l *lab) options(name string) host.Options {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	path := filepath.Join(l.dir, sdk.ExecutablePrefix+name)
	if err := os.Symlink(self, path); err != nil && !errors.Is(err, os.ErrExist) {
		l.t.Fatal(err)
	}
	e, err := host.ExecutableAt(path)
	if err != nil {
		l.t.Fatal(err)
	}
	return host.Options{
		Executable: e, Vouched: true, RunDir: l.dir + "/run", Limits: patient(),
		Log:      slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnChange: func(s host.Status) { l.changes <- s },
	}
}

func (l *lab) open(o host.Options) *host.Plugin {
	l.t.Helper()
	p := host.Open(o)
	l.t.Cleanup(p.Close)
	return p
}

// await waits until the plugin is in a state.
func (l *lab) await(want host.State) host.Status {
	l.t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case s := <-l.changes:
			if s.State == want {
				return s
			}
		case <-deadline:
			l.t.Fatalf("it was never %s; log:\n%s", want, l.log)
		}
	}
}

func request(port string) sdk.Request {
	return sdk.Request{
		Ref: sdk.Ref{Port: port, Feature: vswitch.VMQ}, NIC: "a", Generation: 1,
		MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, Owner: vswitch.OwnerContainer,
	}
}

// ending returns what waits for the end of a process that lives.
func ending(t *testing.T, pid int) (gone func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	return func() {
		t.Helper()
		defer unix.Close(fd) //nolint:errcheck // it was only watched
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n != 1 {
				t.Errorf("process %d lives (%v)", pid, err)
			}
			return
		}
	}
}

func TestPluginStartsWithTheFirstCall(t *testing.T) {
	l := newLab(t)
	p := l.open(l.options("works"))
	if s := p.Status(); s.State != host.Idle || s.Starts != 0 {
		t.Errorf("%+v", s)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			if _, err := p.Ensure(t.Context(), request(fmt.Sprint("pb", i))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	grants, err := p.Grants(sdk.WithRequest(t.Context(), "attach-17"))
	s := p.Status()
	if err != nil || len(grants) != 8 || s.State != host.Running || s.Starts != 1 || s.Description.Version != "1.2" {
		t.Errorf("%d grants (%v), %+v", len(grants), err, s)
	}
	if err := p.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	gone := ending(t, s.PID)
	p.Close()
	gone()
	if _, err := p.Grants(t.Context()); !errors.Is(err, vswitch.PluginFailed) {
		t.Errorf("after Close: %v", err)
	}
	if want := `level=INFO msg="grants were read" plugin=works`; !strings.Contains(l.log.String(), want) || !strings.Contains(l.log.String(), "request=attach-17") {
		t.Errorf("the plugin's own line is not in the log, with the request:\n%s", l.log)
	}
}

func TestPluginsThatDoNotStart(t *testing.T) {
	for name, want := range map[string]string{
		"leaves":           "",
		"mute":             "no connection to it within 1s",
		"deaf":             "no connection to it within 1s",
		"babbles":          "go-plugin's handshake",
		"babbles-for-ever": "",
		"impostor":         `it says that it is "somebody-else"`,
		"open-door":        "",
		"from-the-future":  "Plugin version: 2, Client versions: [1]",
		"elsewhere":        "and not in its own directory",
		"other-socket":     "and not in its own directory",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			o := l.options(name)
			if name == "mute" || name == "deaf" {
				o.Limits.Start = time.Second
			}
			p := l.open(o)
			_, err := p.Grants(t.Context())
			if !errors.Is(err, vswitch.PluginFailed) || !strings.Contains(err.Error(), want) || !strings.Contains(vswitch.HintOf(err), "patchbay plugin check") {
				t.Errorf("%v\nwant %q in it", err, want)
			}
			if s := p.Status(); s.State != host.Waiting || s.PID != 0 || s.Failures != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A crash fails the call that caused it. The next one has a new process.
func TestPluginThatCrashes(t *testing.T) {
	l := newLab(t)
	p := l.open(l.options("crashes"))
	if _, err := p.Ensure(t.Context(), request("good")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ensure(t.Context(), request("bad")); !errors.Is(err, vswitch.PluginFailed) || !errors.Is(err, sdk.ErrGone) {
		t.Fatal(err)
	}
	if _, err := p.Ensure(t.Context(), request("good")); err != nil {
		t.Fatal(err)
	}
	if s := p.Status(); s.Starts != 2 || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
}

func TestPluginWhosePanicNobodyRecovers(t *testing.T) {
	l := newLab(t)
	p := l.open(l.options("crashes-behind"))
	if _, err := p.Ensure(t.Context(), request("pb1")); !errors.Is(err, sdk.ErrGone) {
		t.Error(err)
	}
	l.await(host.Waiting)
	p.Close()
	if !strings.Contains(l.log.String(), "level=ERROR msg=\"panic: nobody recovers from this\"") {
		t.Errorf("the panic is not in the log:\n%s", l.log)
	}
}

// A plugin that dies again and again is tried less and less, and then not for long.
func TestBreakerOpens(t *testing.T) {
	l := newLab(t)
	o := l.options("leaves")
	o.Resident = true
	p := l.open(o)
	s := l.await(host.Broken)
	if s.Failures != 5 || time.Until(s.NextTry) < 50*time.Minute {
		t.Errorf("%+v", s)
	}
	begun := time.Now()
	_, err := p.Grants(t.Context())
	if !errors.Is(err, vswitch.PluginFailed) || !strings.Contains(err.Error(), "it failed 5 times in a row") || time.Since(begun) > time.Second {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
}

// A resident plugin that was killed is there again without a call.
func TestResidentComesBack(t *testing.T) {
	l := newLab(t)
	o := l.options("works")
	o.Resident = true
	p := l.open(o)
	first := l.await(host.Running)
	heard := make(chan sdk.Inventory, 10)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- p.WatchInventory(ctx, func(i sdk.Inventory) error { heard <- i; return nil }) }()
	if i := <-heard; i.NICs[0].ID != fmt.Sprint("pid-", first.PID) {
		t.Errorf("%+v", i)
	}
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := l.await(host.Running)
	if second.PID == first.PID || second.Starts != 2 || !strings.Contains(second.LastFailure, "killed") && !strings.Contains(second.LastFailure, "gone") {
		t.Errorf("%+v", second)
	}
	if i := <-heard; i.NICs[0].ID != fmt.Sprint("pid-", second.PID) {
		t.Errorf("the watch does not go on: %+v", i)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// One call that does not end is late, and no more: the process says that it is well. Five in
// a row are a process that is of no use.
func TestPluginThatForgetsToAnswer(t *testing.T) {
	l := newLab(t)
	o := l.options("forgets-to-answer")
	o.Limits.Change, o.Limits.FirstWait = 100*time.Millisecond, time.Nanosecond
	p := l.open(o)
	late := func(port string) {
		if _, err := p.Ensure(t.Context(), request(port)); !errors.Is(err, vswitch.PluginFailed) || !strings.Contains(err.Error(), "did not answer within") {
			t.Fatal(err)
		}
	}
	late("pb0")
	if _, err := p.Describe(t.Context()); err != nil {
		t.Errorf("other calls are not answered: %v", err)
	}
	for i := range 5 {
		late(fmt.Sprint("pb", i))
	}
	l.await(host.Waiting)
	if s := p.Status(); !strings.Contains(s.LastFailure, "5 answers in a row") {
		t.Errorf("%+v", s)
	}
}

// Whoever calls next does not wait as long again, for others wait for him; what a plugin
// has is still to be read.
func TestPluginThatIsLateIsLetAlone(t *testing.T) {
	l := newLab(t)
	o := l.options("forgets-to-answer")
	o.Limits.Change, o.Limits.FirstWait = 100*time.Millisecond, time.Hour
	p := l.open(o)
	if _, err := p.Ensure(t.Context(), request("pb0")); !errors.Is(err, vswitch.PluginFailed) {
		t.Fatal(err)
	}
	for i := range 100 {
		_, err := p.Ensure(t.Context(), request(fmt.Sprint("pb", i)))
		if !errors.Is(err, vswitch.PluginFailed) || !strings.Contains(err.Error(), "is asked again in 1h0m0s") {
			t.Fatal(err)
		}
	}
	if err := p.Release(t.Context(), request("pb0").Ref, 1); !errors.Is(err, vswitch.PluginFailed) {
		t.Error(err)
	}
	if _, err := p.Grants(t.Context()); err != nil {
		t.Error(err)
	}
	if s := p.Status(); s.State != host.Running {
		t.Errorf("%+v", s)
	}
}

// A process that stands still does not even say that it is well: it is ended.
func TestPluginThatFreezes(t *testing.T) {
	l := newLab(t)
	o := l.options("freezes")
	o.Limits.Change = 100 * time.Millisecond
	p := l.open(o)
	if _, err := p.Ensure(t.Context(), request("pb1")); !errors.Is(err, vswitch.PluginFailed) {
		t.Error(err)
	}
	if s := l.await(host.Waiting); !strings.Contains(s.LastFailure, "it hangs") {
		t.Errorf("%+v", s)
	}
	if _, err := p.Grants(t.Context()); err != nil {
		t.Errorf("there is no new process: %v", err)
	}
}

// A caller that goes away says nothing about the plugin.
func TestImpatientCallers(t *testing.T) {
	l := newLab(t)
	p := l.open(l.options("forgets-to-answer"))
	if _, err := p.Describe(t.Context()); err != nil { // it has started then
		t.Fatal(err)
	}
	for i := range 7 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := p.Ensure(ctx, request(fmt.Sprint("pb", i)))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if s := p.Status(); s.State != host.Running || s.Failures != 0 || s.Starts != 1 {
		t.Errorf("%+v", s)
	}
}

func TestPluginThatLies(t *testing.T) {
	l := newLab(t)
	p := l.open(l.options("lies"))
	for range 5 {
		if _, err := p.Ensure(t.Context(), request("pb1")); !errors.Is(err, vswitch.PluginFailed) || !strings.Contains(err.Error(), "nonsense") {
			t.Fatal(err)
		}
	}
	if s := l.await(host.Waiting); !strings.Contains(s.LastFailure, "nonsense") {
		t.Errorf("%+v", s)
	}
}
