package integration_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// TestTwoDaemons: the second one refuses, and says who is there and what to do.
func TestTwoDaemons(t *testing.T) {
	h := newDaemonHost(t)
	out, err := h.RunEnv(h.Env(), filepath.Join(h.Root, "bin/patchbayd"))
	pid := fmt.Sprint(h.daemon.Process.Pid)
	if err == nil || !strings.Contains(out, "runs already, as process "+pid) || !strings.Contains(out, "kill "+pid) {
		t.Errorf("second daemon: %v: %s", err, out)
	}
	if _, err := h.Patchbay("switch", "add", "prod", "--type", "private"); err != nil {
		t.Error(err)
	}
	if _, err := h.daemon.Await(0, patience, "switch=prod"); err != nil {
		t.Error(err)
	}
}

func newDaemonHost(t *testing.T) *testHost {
	t.Helper()
	h := newHost(t)
	if h.daemon == nil {
		h.startDaemon()
	}
	return h
}

// TestDaemonDiesOverRequest kills patchbayd, as by kill -9, before each step in the
// kernel that a verb takes in turn. Its client, be it the plugin or the command,
// finishes what it began.
func TestDaemonDiesOverRequest(t *testing.T) {
	for _, x := range []struct {
		name    string
		before  func(h *testHost, n *host.Network, c *host.Container)
		verb    func(h *testHost, n *host.Network, c *host.Container) error
		logged  string
		holds   func(h *testHost, n *host.Network, c *host.Container)
		atLeast int
	}{
		{
			name: "ADD", logged: "msg=attach", atLeast: 10,
			verb: func(_ *testHost, n *host.Network, c *host.Container) error { _, err := n.Add(c); return err },
			holds: func(h *testHost, n *host.Network, c *host.Container) {
				ok(h.t, n.Check(c))
				reaches(h.t, c.Netns, "10.0.0.1")
			},
		},
		{
			name: "DEL", logged: "msg=detach", atLeast: 1,
			before: func(h *testHost, n *host.Network, c *host.Container) { _, err := n.Add(c); ok(h.t, err) },
			verb:   func(_ *testHost, n *host.Network, c *host.Container) error { return n.Del(c) },
			holds: func(h *testHost, _ *host.Network, _ *host.Container) {
				if left := h.ports(); len(left) > 0 {
					h.t.Errorf("left: %v", left)
				}
			},
		},
		{
			name: "switch set", logged: `msg="switch set"`, atLeast: 2,
			before: func(h *testHost, n *host.Network, c *host.Container) { _, err := n.Add(c); ok(h.t, err) },
			verb: func(h *testHost, _ *host.Network, _ *host.Container) error {
				_, err := h.Patchbay("switch", "set", "prod", "--gateway", "10.0.0.1/24", "--masquerade")
				return err
			},
			holds: func(h *testHost, _ *host.Network, c *host.Container) {
				reaches(h.t, c.Netns, "10.0.0.1")
				if out, err := h.Patchbay("status"); err != nil || strings.Contains(out, "DRIFTED") {
					h.t.Errorf("status: %v: %s", err, out)
				}
			},
		},
		{
			name: "switch delete", logged: `msg="switch delete"`, atLeast: 2,
			before: func(h *testHost, n *host.Network, c *host.Container) { _, err := n.Add(c); ok(h.t, err) },
			verb: func(h *testHost, _ *host.Network, _ *host.Container) error {
				_, err := h.Patchbay("switch", "delete", "prod", "--force")
				return err
			},
			holds: func(h *testHost, _ *host.Network, _ *host.Container) {
				if out := h.run(h.Netns, "ip", "-o", "link"); strings.Contains(out, ": pb") {
					h.t.Errorf("left: %s", out)
				}
			},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHost(t)
			h.stopDaemon()
			n := h.network(internal("1.1.0"))
			killed, alive := 0, false
			for step := 1; !alive; step++ {
				c := h.container(fmt.Sprintf("c%d", step))
				if x.before != nil {
					x.before(h, n, c)
				}
				d := h.mortal(step)
				if err := x.verb(h, n, c); err != nil {
					t.Fatalf("patchbayd dies before step %d: %v", step, err)
				}
				// Who answered a client logs it right after.
				_, err := d.Await(0, patience, x.logged)
				switch alive = err == nil; {
				case alive:
					ok(t, d.Stop())
				case errors.Is(err, host.ErrEnded):
					ok(t, d.Dead())
					killed++
				default:
					t.Fatal(err)
				}
				x.holds(h, n, c)
				ok(t, n.Del(c))
				_, _ = h.Patchbay("switch", "delete", "prod") // it may be gone
			}
			if killed < x.atLeast {
				t.Errorf("killed %d times only: the build has no faults", killed)
			}
			t.Logf("killed before each of %d steps", killed)
		})
	}
}

// mortal starts a daemon that dies before the n-th step.
func (h *testHost) mortal(n int) *host.Patchbayd {
	h.t.Helper()
	if _, err := os.Stat(filepath.Join(h.Root, "bin/faults/patchbayd")); err != nil {
		h.t.Fatalf("%v; run `make build-faults`", err)
	}
	d, err := h.Patchbayd("faults/patchbayd", fmt.Sprintf("PATCHBAY_DIE_AT=%d", n))
	ok(h.t, err)
	return d
}

// TestDaemonAtRest: nothing wakes patchbayd up while nothing happens, and it needs
// little memory. It is idleness that is measured, by windows of time.
func TestDaemonAtRest(t *testing.T) {
	h := newDaemonHost(t)
	n := h.network(crowded)
	var all []*host.Container
	for i := range 20 {
		c, _ := h.attached(n, fmt.Sprintf("c%d", i))
		all = append(all, c)
	}
	const window, windows = 2 * time.Second, 15
	woken := -1
	for i := 0; i < windows && woken != 0; i++ { // memory is handed back for a while
		before, err := h.daemon.Wakeups()
		ok(t, err)
		<-time.After(window)
		after, err := h.daemon.Wakeups()
		ok(t, err)
		woken = after - before
	}
	if woken != 0 {
		t.Errorf("woken up %d times in %s with nothing to do", woken, window)
	}
	if mb, err := h.daemon.ResidentMB(); err != nil || mb > 60 {
		t.Errorf("%.1f MB of memory, %v", mb, err)
	}
	for _, c := range all {
		ok(t, n.Del(c))
	}
}

// TestDaemonRestarts: connections outlive patchbayd, however it ends, and the next
// one knows every port and finds nothing to repair.
func TestDaemonRestarts(t *testing.T) {
	h := newDaemonHost(t)
	n := h.network(internal("1.1.0"))
	c, _ := h.attached(n, "one")
	line := h.connection(c, "10.0.0.1:7")
	ports := h.ports()
	line.echo(t, "before")
	for i, how := range []func() error{h.daemon.Kill, func() error { return h.daemon.Stop() }} {
		ok(t, how())
		line.echo(t, "without a daemon")
		other, _ := h.attached(n, fmt.Sprint("two", i)) // by the plugin itself
		ok(t, n.Check(c))
		d := h.startDaemon()
		line.echo(t, "with the next one")
		if now := h.ports(); len(now) != len(ports)+1 {
			t.Errorf("ports %v, before %v", now, ports)
		}
		ok(t, n.Check(other))
		ok(t, n.Del(other))
		if strings.Contains(d.Log(), "repaired") {
			t.Errorf("something was repaired:\n%s", d.Log())
		}
	}
	line.close()
	ok(t, n.Del(c))
}

// connection is an open connection to an echo server.
type connection struct{ net.Conn }

// connection opens one from a container to a server on the host.
func (h *testHost) connection(c *host.Container, address string) connection {
	h.t.Helper()
	var line connection
	ok(h.t, h.Do(func() error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = l.Close() }()
			if s, err := l.Accept(); err == nil {
				_, _ = io.Copy(s, s)
				_ = s.Close()
			}
		}()
		return nil
	}))
	ok(h.t, c.Do(func() (err error) {
		line.Conn, err = net.DialTimeout("tcp", address, patience)
		return err
	}))
	return line
}

func (c connection) echo(t *testing.T, word string) {
	t.Helper()
	ok(t, c.SetDeadline(time.Now().Add(patience)))
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatalf("%s: %v", word, err)
	}
	back := make([]byte, len(word))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != word {
		t.Fatalf("%s: %q, %v", word, back, err)
	}
}

func (c connection) close() { _ = c.Close() }

// TestSocketActivation: the socket is systemd's, a client may come before the
// daemon, and the socket outlives it.
func TestSocketActivation(t *testing.T) {
	h := newHost(t)
	h.stopDaemon()
	socket := filepath.Join(h.RunDir(), "patchbayd.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	ok(t, err)
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	ok(t, err)
	early := make(chan error, 1)
	go func() {
		_, err := h.Patchbay("switch", "add", "prod", "--type", "private")
		early <- err
	}()
	c := exec.Command("sh", "-c", "LISTEN_PID=$$ exec "+filepath.Join(h.Root, "bin/patchbayd"))
	c.Env = append(append(os.Environ(), h.Env()...), "LISTEN_FDS=1")
	c.ExtraFiles = []*os.File{f}
	var log strings.Builder
	c.Stderr = &log
	ok(t, host.StartNotifying(h.Netns, c))
	ok(t, <-early)
	ok(t, errors.Join(l.Close(), f.Close()))
	if _, err := h.Patchbay("switch", "delete", "prod"); err != nil {
		t.Error(err)
	}
	ok(t, c.Process.Signal(syscall.SIGTERM))
	ok(t, c.Wait())
	for _, line := range []string{`msg="switch add"`, `msg="switch delete"`, "patchbayd stopped"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %s:\n%s", line, log.String())
		}
	}
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("the socket is not the daemon's to remove: %v", err)
	}
}

// TestOnlyRoot: the socket is root's alone, and where somebody has opened it to all,
// patchbayd looks at who asks.
func TestOnlyRoot(t *testing.T) {
	h := newDaemonHost(t)
	socket := filepath.Join(h.RunDir(), "patchbayd.sock")
	for path, mode := range map[string]os.FileMode{socket: os.ModeSocket | 0o600, h.RunDir(): os.ModeDir | 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	ok(t, os.Chmod(socket, 0o666))
	for dir := h.RunDir(); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		ok(t, err)
		ok(t, os.Chmod(dir, info.Mode().Perm()|0o755))
	}
	var out []byte
	var err error
	ok(t, h.Do(func() error {
		c := exec.Command(filepath.Join(h.Root, "bin/patchbay"), "switch", "add", "prod", "--type", "private")
		c.Env = append(os.Environ(), h.Env()...)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err = c.CombinedOutput()
		return nil
	}))
	if err == nil || !strings.Contains(string(out), "permission denied") {
		t.Errorf("another user: %v: %s", err, out)
	}
	if _, err := h.daemon.Await(0, patience, "request refused", "user 65534 is not root"); err != nil {
		t.Error(err)
	}
	ok(t, os.Chmod(h.RunDir(), 0o700))
}

// TestAnotherHostsClient: a client in another network namespace is on another host,
// whatever directory it names.
func TestAnotherHostsClient(t *testing.T) {
	h := newDaemonHost(t)
	outside := h.outside("eth0")
	for ns, served := range map[*host.Netns]bool{h.Netns: true, outside: false} {
		out, err := ns.RunEnv(h.Env(), filepath.Join(h.Root, "bin/patchbay"), "status", "-o", "json")
		ok(t, err)
		if strings.Contains(out, `"pid"`) != served {
			t.Errorf("served by the daemon is not %v: %s", served, out)
		}
	}
}

// TestStoppedDaemon: one that does not move keeps no container from starting.
func TestStoppedDaemon(t *testing.T) {
	h := newDaemonHost(t)
	n := h.network(internal("1.1.0"))
	ok(t, h.daemon.Process.Signal(syscall.SIGSTOP))
	c, _ := h.attached(n, "one")
	reaches(t, c.Netns, "10.0.0.1")
	ok(t, h.daemon.Process.Signal(syscall.SIGCONT))
	ok(t, n.Del(c))
	if log := h.daemon.Log(); strings.Contains(log, "msg=attach") {
		t.Errorf("it did late what others had done:\n%s", log)
	}
}
