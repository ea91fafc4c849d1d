package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// marker tells the process inside the sandbox from the one that made it.
const marker = "PATCHBAY_SANDBOX"

// Main runs the program again in private network, mount and process namespaces,
// and there calls run; it returns the exit code. /run is
// empty inside, and writes below the overlaid directories stay inside. Without
// root it calls run as it is: what needs a sandbox finds out with Inside.
func Main(run func() int, overlaid ...string) int {
	switch {
	case os.Getuid() != 0:
		return run()
	case !Inside():
		return again()
	case os.Getpid() == 1:
		return bury()
	}
	if err := furnish(overlaid); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	return run()
}

// Inside reports whether the process runs in a sandbox that Main made.
func Inside() bool { return os.Getenv(marker) != "" }

func again() int {
	runtime.LockOSThread() // Pdeathsig follows the thread, not the process
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	c := exec.Command(self, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), marker+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	return 1
}

// bury is process 1 of the sandbox: it runs the program once more and takes note of
// the ends of all whose parents have ended. One that waits for such a process to be
// gone, as libvirtd does for its virtual machines, would wait for ever.
func bury() int {
	self, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		dead, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "sandbox: wait:", err)
			return 1
		case dead != self.Pid:
		case status.Signaled():
			fmt.Fprintln(os.Stderr, "sandbox:", status.Signal())
			return 1
		case status.Exited():
			return status.ExitStatus()
		}
	}
}

// furnish gives the new namespaces their own /proc, an empty /run and overlays.
// /sys stays: a new one would hide the control groups from container runtimes.
func furnish(overlaid []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, dir := range overlaid {
		if err := overlay(dir); err != nil {
			return fmt.Errorf("overlay %s: %w", dir, err)
		}
	}
	return loopbackUp()
}

func overlay(dir string) error {
	base := filepath.Join("/run/sandbox", strings.ReplaceAll(dir, "/", "_"))
	upper, work := filepath.Join(base, "upper"), filepath.Join(base, "work")
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
	return unix.Mount("overlay", dir, "overlay", 0, options)
}

// Root is the directory of the module, found upwards from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, serr := os.Stat(filepath.Join(dir, "go.mod")); serr == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod above the working directory: run this inside the source tree")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
