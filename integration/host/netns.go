package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Netns is a network namespace kept alive by a mount at Path.
type Netns struct {
	Path   string
	file   *os.File
	estate *estate // nil: files and host name are those of the process
	closed atomic.Bool
}

// Here is the namespace of the process. It needs no Close.
func Here() (*Netns, error) {
	const path = "/proc/self/ns/net"
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Netns{Path: path, file: f}, nil
}

// NewNetns makes a namespace with lo up, mounted at path.
func NewNetns(path string) (*Netns, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, err
	}
	_ = f.Close() // nothing was written
	err = inThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
		return loopbackUp()
	})
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	ns, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Netns{Path: path, file: ns}, nil
}

// inThread runs f on a thread of its own that ends with it, so that f may change
// the thread's namespace.
func inThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

func loopbackUp() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return linkUp(h, "lo")
}

// Do runs f in the namespace; processes that f starts are born there.
func (n *Netns) Do(f func() error) error {
	return inThread(func() error {
		if err := n.Enter(); err != nil {
			return err
		}
		return f()
	})
}

// Enter moves the calling thread into the namespace. The goroutine must have
// locked it, and must never unlock it.
func (n *Netns) Enter() error {
	err := setns(n.file, unix.CLONE_NEWNET)
	if err == nil && n.estate != nil {
		err = n.estate.enter()
	}
	if err != nil {
		return fmt.Errorf("enter %s: %w", n.Path, err)
	}
	return nil
}

func setns(f *os.File, kind int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = conn.Control(func(fd uintptr) { serr = unix.Setns(int(fd), kind) })
	return errors.Join(err, serr)
}

// Run runs a command in the namespace and returns what it printed.
func (n *Netns) Run(argv ...string) (string, error) { return n.RunEnv(nil, argv...) }

// RunEnv is Run with variables added to the environment.
func (n *Netns) RunEnv(env []string, argv ...string) (string, error) {
	var out []byte
	err := n.Do(func() (err error) {
		c := exec.Command(argv[0], argv[1:]...)
		c.Env = append(os.Environ(), env...)
		out, err = c.CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), err
}

// Links is a netlink handle in the namespace; the caller closes it.
func (n *Netns) Links() (*netlink.Handle, error) {
	return netlink.NewHandleAt(netns.NsHandle(n.file.Fd()), unix.NETLINK_ROUTE)
}

// Write writes a file as seen in the namespace: a sysctl.
func (n *Netns) Write(path, text string) error {
	return n.Do(func() error { return os.WriteFile(path, []byte(text), 0o644) })
}

// Read reads a file as seen in the namespace: a sysctl.
func (n *Netns) Read(path string) (string, error) {
	var text []byte
	err := n.Do(func() (err error) { text, err = os.ReadFile(path); return err })
	return strings.TrimSpace(string(text)), err
}

// Unmount removes the path while whoever is in the namespace stays there: how a
// runtime's namespace vanishes before DEL.
func (n *Netns) Unmount() error {
	if err := unix.Unmount(n.Path, unix.MNT_DETACH); err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil // it was done before
		}
		return fmt.Errorf("unmount %s: %w", n.Path, err)
	}
	return os.Remove(n.Path)
}

// LetGo closes what this process holds of the namespace, which stays for others by its
// mount; Close is all that can be done with it afterwards. Each program that is started
// has to close all that its parent holds: 5000 namespaces take a millisecond.
func (n *Netns) LetGo() error { return n.file.Close() }

// Close lets the namespace go, with everything in it. It may be called twice.
func (n *Netns) Close() error {
	if n.closed.Swap(true) {
		return nil
	}
	err := n.file.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil // LetGo
	}
	err = errors.Join(n.Unmount(), err)
	if n.estate != nil {
		err = errors.Join(err, n.estate.close())
	}
	return err
}

// Cable joins two namespaces by a veth pair with both ends up: a NIC and the
// socket in the wall.
func Cable(a *Netns, aName string, b *Netns, bName string) error {
	ah, err := a.Links()
	if err != nil {
		return err
	}
	defer ah.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = bName, netlink.NsFd(b.file.Fd())
	if err := ah.LinkAdd(pair); err != nil {
		return fmt.Errorf("cable %s to %s: %w", aName, bName, err)
	}
	if err := linkUp(ah, aName); err != nil {
		return err
	}
	bh, err := b.Links()
	if err != nil {
		return err
	}
	defer bh.Close()
	return linkUp(bh, bName)
}

func linkUp(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkSetUp(l)
}

// LinkEvents tells of every change of a netdev in the namespace until end is called.
func (n *Netns) LinkEvents() (events <-chan netlink.LinkUpdate, end func(), err error) {
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	ns := netns.NsHandle(n.file.Fd())
	err = netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{Namespace: &ns})
	if err != nil {
		return nil, nil, fmt.Errorf("watch netdevs: %w", err)
	}
	return updates, func() {
		close(done)
		for range updates { // until the socket is closed
		}
	}, nil
}
