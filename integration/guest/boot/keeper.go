package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// keeperName is what a keeper is called instead of by its program's name.
const keeperName = "guest-keeper"

// IsKeeper reports whether this is a keeper, which must call Keep.
func IsKeeper() bool { return os.Args[0] == keeperName }

// Keep is a keeper, a process between the one that boots a guest and the guest: it sees
// to it that nothing of the guest is left, even if the former is killed. It does not
// return.
func Keep() {
	if err := keep(os.Args[1], os.Args[2:]); err != nil {
		_, _ = fmt.Fprintln(os.NewFile(4, "stderr"), "guest:", err) // nobody else to tell
		os.Exit(1)
	}
	os.Exit(0)
}

// keep runs a guest to its end. A byte on file 3 ends it; the end of file 3 means that
// nobody is interested any more, and so its directory goes too.
func keep(dir string, argv []string) error {
	runtime.LockOSThread() // whose end is the guest's, by Pdeathsig
	guest := exec.Command(argv[0], argv[1:]...)
	guest.Stdin, guest.Stdout, guest.Stderr = os.Stdin, os.Stdout, os.Stderr
	// user-mode-linux has processes that outlive a killed one of them: they are in one
	// group. Without a terminal of its own it is not stopped for reading that of another.
	guest.SysProcAttr = &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if err := guest.Start(); err != nil {
		return err
	}
	alone := make(chan bool, 1)
	go func() {
		n, _ := io.ReadFull(os.NewFile(3, "pipe"), make([]byte, 1)) // either way
		alone <- n == 0
		_ = unix.Kill(-guest.Process.Pid, unix.SIGKILL) // gone already if it fails
	}()
	err := guest.Wait() // whose exit status tells nothing
	if exited := new(exec.ExitError); errors.As(err, &exited) {
		err = nil
	}
	_ = unix.Kill(-guest.Process.Pid, unix.SIGKILL) // what is left of it
	select {
	case abandoned := <-alone:
		if abandoned {
			return os.RemoveAll(dir)
		}
	default:
	}
	return err
}

// kept is the keeper of a guest and what ends it.
func (g *guest) kept() (*exec.Cmd, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	argv := g.uml()
	if g.Kernel == QEMU {
		argv = g.qemu()
	}
	c := exec.Command(g.Init)
	c.Args = append([]string{keeperName, g.dir}, argv...)
	c.ExtraFiles = []*os.File{r, os.Stderr}
	c.Env = append(os.Environ(), g.memory()...)
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // ^C is for who booted it
	return c, w, nil
}

// memory is where user-mode-linux has its guest's memory: in /dev/shm unless that is too
// small, as it is in many containers.
func (g *guest) memory() []string {
	const size = 1 << 30
	var shm unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &shm); err == nil && int64(shm.Bavail)*shm.Bsize > size {
		return nil
	}
	return []string{"TMPDIR=" + filepath.Dir(g.dir)}
}

// wait runs the guest to its end, or ends it when ctx does.
func (g *guest) wait(c *exec.Cmd, end *os.File, done <-chan struct{}) error {
	if err := c.Start(); err != nil {
		return errors.Join(err, c.ExtraFiles[0].Close(), end.Close())
	}
	_ = c.ExtraFiles[0].Close() // the keeper has it
	over := make(chan error, 1)
	go func() { over <- c.Wait() }()
	select {
	case err := <-over:
		return errors.Join(err, end.Close())
	case <-done:
	}
	_, err := end.Write([]byte{0})
	return errors.Join(err, <-over, end.Close())
}
