package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoResult says that a guest ended, or was ended, before its program did.
var ErrNoResult = errors.New("no result from the guest")

// Machine is what guests are booted from.
type Machine struct {
	Kernel Kernel
	// Init is a static program that calls Init when IsGuest.
	Init string
	// Progress is where set-up and second tries are told.
	Progress io.Writer
}

// Run boots a guest, copies what its program prints to out as it comes, and returns
// the program's exit status. A guest that does not come as far as the program is booted
// once more; any other that ends without a status is an ErrNoResult with the last lines
// of its console.
func (m Machine) Run(ctx context.Context, j Job, out io.Writer) (int, error) {
	root, kernel, err := Setup(ctx, m.Kernel, m.Progress)
	if err != nil {
		return 0, err
	}
	for try := 1; ; try++ {
		dir, err := os.MkdirTemp("", "guest")
		if err != nil {
			return 0, err
		}
		g := &guest{Machine: m, Job: j, root: root, kernel: kernel, dir: dir}
		status, err := g.run(ctx, out)
		err = errors.Join(err, os.RemoveAll(dir))
		if try == 1 && errors.Is(err, ErrNoResult) && !g.started && ctx.Err() == nil {
			_, _ = fmt.Fprintf(m.Progress, "%v\nbooting once more\n", err) // only talk
			continue
		}
		return status, err
	}
}

// guest is one that is booted.
type guest struct {
	Machine
	Job
	root, kernel string // directories of the pieces
	dir          string // shared with the guest, its own
	started      bool   // the program was
}

func (g *guest) run(ctx context.Context, out io.Writer) (int, error) {
	if err := g.prepare(); err != nil {
		return 0, err
	}
	console, err := os.Create(g.file(consoleFile))
	if err != nil {
		return 0, err
	}
	defer func() { _ = console.Close() }() // what is written is read from the file
	limited, cancel := context.WithTimeoutCause(ctx, g.Limit, fmt.Errorf("not done after %s", g.Limit))
	defer cancel()
	c, end, err := g.kept()
	if err != nil {
		return 0, err
	}
	c.Stdout, c.Stderr = console, console
	if g.Console {
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
		restore, err := keepTerminal()
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	follow, err := startFollower(g.file(logFile), out)
	if err != nil {
		return 0, err
	}
	ended := g.wait(c, end, limited.Done())
	g.started, err = follow.stop()
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(g.file(statusFile))
	if err == nil {
		return strconv.Atoi(string(text))
	}
	why := "ended"
	if cause := context.Cause(limited); cause != nil {
		why = cause.Error()
	} else if ended != nil {
		why = ended.Error()
	}
	return 0, fmt.Errorf("%w: %s: %s; the end of its console:\n%s", ErrNoResult, g.Kernel, why, g.consoleTail())
}

// prepare writes what the guest reads.
func (g *guest) prepare() error {
	o := order{Argv: g.Argv, Dir: g.Dir, Env: append([]string{"PATCHBAY_GUEST=" + string(g.Kernel), "PATCHBAY_GUEST_DIR=" + piecesDir}, g.Env...)}
	if g.Kernel == QEMU {
		o.NICs = g.NICs
		o.Modules = []string{"virtio_console"}
		if g.NICs > 0 {
			o.Modules = append(o.Modules, "igb")
		}
	}
	if g.Console {
		o.Console = map[Kernel]string{UML: "/dev/tty0", QEMU: "/dev/ttyS0"}[g.Kernel]
		if size, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ); err == nil {
			o.Rows, o.Columns = size.Row, size.Col
		}
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	rd, err := Initrd(g.Init, filepath.Join(g.kernel, "early"))
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(g.file(orderFile), text, 0o644),
		os.WriteFile(g.file("initrd"), rd, 0o644),
		os.WriteFile(g.file(logFile), nil, 0o644))
}

func (g *guest) file(name string) string { return filepath.Join(g.dir, name) }

// uml is the command line of a user-mode-linux guest.
func (g *guest) uml() []string {
	return []string{
		filepath.Join(g.kernel, "linux"), "mem=1G", "uml_dir=" + g.dir + "/", "initrd=" + g.file("initrd"), "con0=fd:0,fd:1", "con=null", "quiet", "panic=-1",
		"patchbay.on=uml", "patchbay.root=" + g.root, "patchbay.kernel=" + g.kernel, "patchbay.pieces=" + filepath.Dir(g.root), "patchbay.out=" + g.dir, "patchbay.source=" + g.Source,
	}
}

// consoleTail is the end of what the guest's kernel said.
func (g *guest) consoleTail() string {
	text, err := os.ReadFile(g.file(consoleFile))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(text), "\r", "")), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// keepTerminal returns what puts the terminal back to how it is now.
func keepTerminal() (restore func(), err error) {
	fd := int(os.Stdin.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("standard input is no terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETSW, was) }, nil // nothing else could be done
}
