package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// IsGuest reports whether this is process 1 of a guest, which must call Init.
func IsGuest() bool { return os.Getpid() == 1 && os.Args[0] == "/init" }

// Init is process 1 of a guest: it makes the root, does what it was ordered to, leaves
// the exit status, and ends the guest. It does not return.
func Init() {
	status, err := obey()
	if err == nil {
		err = leave(status)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err) // on the kernel's console
	}
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Fprintln(os.Stderr, "guest: power off:", err)
	os.Exit(1)
}

func obey() (int, error) {
	if err := makeRoot(); err != nil {
		return 0, err
	}
	var o order
	text, err := os.ReadFile("/out/" + orderFile)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return 0, err
	}
	for _, m := range o.Modules {
		if err := do("/usr/sbin/modprobe", m); err != nil {
			return 0, err
		}
	}
	for i := range o.NICs { // in the order of their slots
		if err := do("/usr/sbin/ip", "link", "set", fmt.Sprintf("eth%d", i), "name", fmt.Sprintf("n%d", i)); err != nil {
			return 0, err
		}
	}
	return run(command{argv: o.Argv, env: append(environment(), o.Env...), dir: o.Dir, order: &o})
}

func leave(status int) error {
	name := "/out/" + statusFile
	if err := os.WriteFile(name+".half", []byte(strconv.Itoa(status)), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".half", name)
}

func environment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "TMPDIR=/tmp", "LANG=C.UTF-8",
	}
}

// mount is an entry of what the guest has mounted.
type mount struct {
	what, at, kind string
	flags          uintptr
	options        string
}

func mountAll(all []mount) error {
	for _, m := range all {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.at, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// Early is the first thing to do in an Initrd: it mounts /proc, /sys and /dev, and loads
// the modules.
func Early() error {
	err := mountAll([]mount{{"proc", "/proc", "proc", 0, ""}, {"sys", "/sys", "sysfs", 0, ""}, {"dev", "/dev", "devtmpfs", 0, ""}})
	if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel may have mounted /dev itself
		return err
	}
	return loadEarly()
}

// makeRoot turns the guest from its first file system to the root it works in.
func makeRoot() error {
	if err := Early(); err != nil {
		return err
	}
	args, err := arguments()
	if err != nil {
		return err
	}
	src := args["patchbay.source"]
	if err := mountAll([]mount{
		args.share("root", "/lower/root"), args.share("kernel", "/lower/kernel"),
		{"up", "/up", "tmpfs", 0, ""},
	}); err != nil {
		return err
	}
	const root = "/newroot"
	if err := overlay("/lower/kernel/root:/lower/root/root", "/up/root", root); err != nil {
		return err
	}
	out := args.share("out", root+"/out")
	out.flags &^= unix.MS_RDONLY
	shared := []mount{
		{"run", root + "/run", "tmpfs", 0, "mode=755"}, {"tmp", root + "/tmp", "tmpfs", 0, "mode=1777"}, // the source may be below
		out, args.share("pieces", root+piecesDir),
	}
	if src != "" {
		shared = append(shared, args.share("source", "/lower/source"))
	}
	if err := mountAll(shared); err != nil {
		return err
	}
	if src != "" {
		if err := overlay("/lower/source", "/up/source", root+src); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(dir, root+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := errors.Join(unix.Chdir(root), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return furnish()
}

func overlay(lower, upper, at string) error {
	if err := errors.Join(os.MkdirAll(upper+"/u", 0o755), os.MkdirAll(upper+"/w", 0o755)); err != nil {
		return err
	}
	return mountAll([]mount{{"overlay", at, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/u,workdir=%s/w", lower, upper, upper)}})
}

// furnish mounts the rest of what a Linux system has.
func furnish() error {
	if err := mountAll([]mount{
		{"devpts", "/dev/pts", "devpts", 0, "ptmxmode=666"},
		{"shm", "/dev/shm", "tmpfs", 0, "mode=1777"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""},
	}); err != nil {
		return err
	}
	for _, dir := range []string{"/run/netns", "/run/lock", "/opt", "/etc/cni", "/var/lib/cni", "/var/log"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return err
	}
	return do("/usr/sbin/ip", "link", "set", "lo", "up")
}

// do runs a program that has to succeed.
func do(argv ...string) error {
	status, err := run(command{argv: argv, env: os.Environ()})
	if err == nil && status != 0 {
		err = fmt.Errorf("%s: exit status %d", strings.Join(argv, " "), status)
	}
	return err
}

func loadEarly() error {
	files, err := filepath.Glob("/early/*.ko") // in order
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		_ = f.Close() // read only
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// cmdline is what the kernel was booted with.
type cmdline map[string]string

func arguments() (cmdline, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	args := cmdline{}
	for _, word := range strings.Fields(string(text)) {
		key, value, _ := strings.Cut(word, "=")
		args[key] = value
	}
	return args, nil
}

// share is a directory of the machine: by its path in user-mode-linux, by its name in
// qemu. What is shared both ways must not be cached, so that the machine sees it.
func (args cmdline) share(name, at string) mount {
	if args["patchbay.on"] == string(UML) {
		return mount{"none", at, "hostfs", unix.MS_RDONLY, args["patchbay."+name]}
	}
	options := "trans=virtio,version=9p2000.L,msize=512000,cache=loose"
	if name == "out" {
		options = strings.Replace(options, "loose", "none", 1)
	}
	return mount{name, at, "9p", unix.MS_RDONLY, options}
}

// command is a program for process 1 to run; with an order its output is what the
// guest is asked for.
type command struct {
	argv, env []string
	dir       string
	order     *order
}

// run runs a program to its end and returns its exit status, 128 + n for signal n. It
// meanwhile buries the orphans that the kernel makes children of process 1.
func run(c command) (int, error) {
	attr := &syscall.ProcAttr{Dir: c.dir, Env: c.env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}}
	if c.order != nil {
		f, err := c.order.output()
		if err != nil {
			return 0, err
		}
		defer func() { _ = f.Close() }() // the guest ends
		in := f
		if c.order.Console == "" {
			if in, err = os.Open(os.DevNull); err != nil {
				return 0, err
			}
			defer func() { _ = in.Close() }()
		}
		attr.Files = []uintptr{in.Fd(), f.Fd(), f.Fd()}
		attr.Sys.Setctty = c.order.Console != ""
	}
	pid, err := syscall.ForkExec(c.argv[0], c.argv, attr)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.argv[0], err)
	}
	for {
		var status syscall.WaitStatus
		dead, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case dead != pid:
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		case status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// output opens the terminal of an interactive job, or the log of others.
func (o *order) output() (*os.File, error) {
	if o.Console == "" {
		return os.OpenFile("/out/"+logFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	}
	f, err := os.OpenFile(o.Console, os.O_RDWR, 0)
	if err == nil && o.Rows > 0 {
		err = unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: o.Rows, Col: o.Columns})
	}
	return f, err
}
