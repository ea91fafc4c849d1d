package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// estate is what a host has of its own besides a network: a mount namespace with
// a root made of a template, and a host name.
type estate struct {
	share         string // the directory that is at the same path in all of them
	mounts, names *os.File
}

// Estate is how a host gets files of its own.
type Estate struct {
	Name     string // of the host
	Template string // the directory that its root begins as, or several in overlayfs' way; nothing is written there
	Share    string // a directory, above the host's, that it has at the same path as this process
}

// NewWith is New for a host with a root and a name of its own, where programs find
// their files in the usual places and two hosts do not meet. It has the source tree
// and the shared directory at the same paths as this process, which mounts that are
// made there later reach as well: the namespaces of containers.
func NewWith(dir string, e Estate) (*Host, error) {
	if err := shareMounts(e.Share); err != nil {
		return nil, err
	}
	h, err := New(dir)
	if err != nil {
		return nil, err
	}
	h.ownFiles = true
	s := &estate{share: e.Share}
	err = h.Do(func() error { return s.settle(h, e) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a root for %s: %w", e.Name, err), h.Close())
	}
	h.estate = s
	return h, nil
}

// shareMounts makes dir a mount whose later mounts other namespaces get to know.
func shareMounts(dir string) error {
	err := unix.Mount("", dir, "", unix.MS_SHARED, "")
	if errors.Is(err, unix.EINVAL) { // it is no mount yet
		if err = unix.Mount(dir, dir, "", unix.MS_BIND, ""); err == nil {
			err = unix.Mount("", dir, "", unix.MS_SHARED, "")
		}
	}
	return os.NewSyscallError("mount "+dir, err)
}

// settle turns the thread's root into the host's. The thread is the host's already
// where the network is concerned, which /sys shows.
func (s *estate) settle(h *Host, e Estate) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return err
	}
	if err := errors.Join(unix.Sethostname([]byte(e.Name)), unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")); err != nil {
		return err
	}
	upper, work, root, run := filepath.Join(h.Dir, "root/upper"), filepath.Join(h.Dir, "root/work"), filepath.Join(h.Dir, "root/merged"), filepath.Join(h.Dir, "root/run")
	for _, d := range []string{upper, work, root, run} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		what, at, kind string
		flags          uintptr
		options        string
	}{
		{"overlay", "", "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", e.Template, upper, work)},
		{"/proc", "/proc", "", unix.MS_BIND | unix.MS_REC, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
		{"/sys/fs/cgroup", "/sys/fs/cgroup", "", unix.MS_BIND | unix.MS_REC, ""},
		{"/dev", "/dev", "", unix.MS_BIND | unix.MS_REC, ""},
		{run, "/run", "", unix.MS_BIND, ""},
		{"tmpfs", "/tmp", "tmpfs", 0, ""},
		{h.Root, h.Root, "", unix.MS_BIND, ""},
		{e.Share, e.Share, "", unix.MS_BIND | unix.MS_REC, ""},
	} {
		if err := os.MkdirAll(root+m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, root+m.at, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := errors.Join(unix.Chdir(root), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/")); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	var err error
	if s.mounts, err = os.Open("/proc/thread-self/ns/mnt"); err == nil {
		s.names, err = os.Open("/proc/thread-self/ns/uts")
	}
	return err
}

// enter gives the calling thread the host's files and name.
func (s *estate) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return errors.Join(setns(s.mounts, unix.CLONE_NEWNS), setns(s.names, unix.CLONE_NEWUTS))
}

func (s *estate) close() error { return errors.Join(s.mounts.Close(), s.names.Close()) }

// shared is a directory that this process and what runs in the namespace both have at
// the same path; none is the one for temporary files.
func (n *Netns) shared() string {
	if n.estate == nil {
		return ""
	}
	return n.estate.share
}
