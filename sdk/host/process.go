package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// process is a plugin's: a session of its own, with nothing of the host's environment, that
// ends with the host, and whose children end with it. It is a runner.Runner of go-plugin.
type process struct {
	name      string
	socketDir string
	cmd       *exec.Cmd
	pipes     []*os.File // the plugin's ends
	stdout    *trickle
	stderr    *trickle
	exited    chan struct{} // closed when it has ended and is reaped

	mu     sync.Mutex
	reaped bool
	ended  error
}

// drainTime is how long what a process wrote last can be read after its end; a descendant
// that left its session may keep the pipes open for ever.
const drainTime = 200 * time.Millisecond

// newProcess prepares a process of an executable that was opened.
func newProcess(name string, f *os.File, env []string, socketDir string) (*process, error) {
	p := &process{name: name, socketDir: socketDir, exited: make(chan struct{})}
	p.cmd = &exec.Cmd{
		// The file that was looked at, whatever is at its path by now; a script's
		// interpreter opens it by the same name.
		Path:        "/proc/self/fd/3",
		Args:        []string{name},
		ExtraFiles:  []*os.File{f},
		Env:         append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, env...),
		Dir:         "/",
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	for _, out := range []struct {
		ours  **trickle
		their *io.Writer
	}{{&p.stdout, &p.cmd.Stdout}, {&p.stderr, &p.cmd.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			p.closePipes()
			return nil, err
		}
		*out.ours, *out.their = newTrickle(r), w
		p.pipes = append(p.pipes, w)
	}
	return p, nil
}

func (p *process) closePipes() {
	for _, w := range p.pipes {
		_ = w.Close() // the plugin has its own
	}
}

// Start starts it.
func (p *process) Start(context.Context) error {
	started := make(chan error, 1)
	go p.live(started)
	return <-started
}

// live is the process's life, on one thread: the kernel ends a plugin with the thread that
// started it, which must not be one that the runtime lets die.
func (p *process) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.mu.Lock()
	err := p.cmd.Start()
	p.reaped, p.ended = err != nil, err
	p.mu.Unlock()
	p.closePipes()
	if err != nil {
		close(p.exited)
	}
	started <- err
	if err != nil {
		return
	}
	awaitZombie(p.cmd.Process.Pid)
	p.mu.Lock()
	p.killGroup() // its children, while its number is nobody else's
	p.ended, p.reaped = p.cmd.Wait(), true
	p.mu.Unlock()
	for _, t := range []*trickle{p.stdout, p.stderr} {
		t.endBy(time.Now().Add(drainTime))
	}
	close(p.exited)
}

// awaitZombie waits until a child has ended, and leaves it to be reaped.
func awaitZombie(pid int) {
	const pPID = 1
	var info [128]byte // siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

func (p *process) killGroup() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone is as good
}

// Kill ends it and its children at once.
func (p *process) Kill(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd.Process != nil && !p.reaped {
		p.killGroup()
	}
	return nil
}

// Wait waits for its end and says what that was.
func (p *process) Wait(context.Context) error {
	<-p.exited
	return p.ended
}

// ID is its number.
func (p *process) ID() string { return strconv.Itoa(p.pid()) }

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd.Process == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Name is the plugin's.
func (p *process) Name() string { return p.name }

// Stdout carries the handshake, and what the plugin prints by mistake.
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr carries its log.
func (p *process) Stderr() io.ReadCloser { return p.stderr }

// Diagnose says what may be wrong with a program that did not shake hands.
func (p *process) Diagnose(context.Context) string {
	return "it must print go-plugin's handshake to stdout before anything else"
}

// PluginToHost refuses a socket that is not where the plugin was told to make it.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(filepath.Clean(address)) != filepath.Clean(p.socketDir) {
		return "", "", fmt.Errorf("it listens on %.32s %.128q, and not in its own directory, PLUGIN_UNIX_SOCKET_DIR", network, address)
	}
	return network, address, nil
}

// HostToPlugin is for go-plugin's broker, which nobody uses.
func (p *process) HostToPlugin(string, string) (string, string, error) {
	return "", "", errors.New("the host serves nothing")
}
