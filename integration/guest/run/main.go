// Guest runs programs, and above all the project's tests, in guests with stock
// kernels (package boot).
//
//	guest test [-run REGEXP] [-kernel uml|qemu] [-nested] PACKAGE...
//	guest exec [-kernel uml|qemu] [-nics N] [-nested] [COMMAND [ARGUMENT...]]
//	guest setup [-kernel uml|qemu]
//
// The guest of exec has the working directory at the same path, as it is when the guest
// boots, and the programs below bin in its PATH; without a command, a shell on the
// terminal.
//
// It exits with the status of what ran, the worst if there is more than one, and
// with 125 if a guest did not come that far.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest/boot"
)

// infrastructure is the exit code when the guest, not what runs in it, failed.
const infrastructure = 125

func main() {
	switch {
	case boot.IsGuest():
		boot.Init()
	case boot.IsKeeper():
		boot.Keep()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := guests(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(infrastructure)
	}
	os.Exit(status)
}

// flags are those of all subcommands.
type flags struct {
	*flag.FlagSet
	machine boot.Machine
	root    string // of the source tree
	limit   time.Duration
	nics    int
	nested  bool
	run     string
}

func guests(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("say test, exec or setup: go doc ./integration/guest/run")
	}
	f := flags{FlagSet: flag.NewFlagSet(args[0], flag.ExitOnError)}
	kernel := f.String("kernel", string(boot.UML), "kernel of the guests: uml or qemu")
	f.DurationVar(&f.limit, "limit", 10*time.Minute, "end a guest after this time")
	f.IntVar(&f.nics, "nics", 4, "igb `NICs` of a qemu guest, joined in pairs")
	f.BoolVar(&f.nested, "nested", false, "make it fit for virtual machines with VFs; its NICs are on one cable")
	f.StringVar(&f.run, "run", "", "run the tests that match, and no others")
	_ = f.Parse(args[1:]) // exits
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	f.machine = boot.Machine{Kernel: boot.Kernel(*kernel), Init: self, Progress: os.Stderr}
	if f.machine.Kernel != boot.UML && f.machine.Kernel != boot.QEMU {
		return 0, fmt.Errorf("no kernel %q: uml or qemu", *kernel)
	}
	switch args[0] {
	case "setup":
		_, _, err := boot.Setup(ctx, f.machine.Kernel, os.Stderr)
		return 0, err
	case "exec":
		return f.exec(ctx)
	case "test":
		dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
		if err != nil {
			return 0, fmt.Errorf("go list -m: %w", err)
		}
		f.root = strings.TrimSpace(string(dir))
		return f.test(ctx)
	}
	return 0, fmt.Errorf("no subcommand %q", args[0])
}

// exec runs a command of the guest's, or one below the working directory, or a shell.
func (f *flags) exec(ctx context.Context) (int, error) {
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	bin := filepath.Join(dir, "bin")
	j := boot.Job{
		Argv: append([]string{"/usr/bin/env"}, f.Args()...), Dir: dir, Source: dir, Limit: f.limit, NICs: f.nics, Nested: f.nested,
		Env: []string{
			"PATH=" + strings.Join([]string{bin, filepath.Join(bin, "tools"), "/usr/sbin", "/usr/bin"}, ":"),
			"CNI_PATH=" + strings.Join([]string{filepath.Join(bin, "cni"), filepath.Join(bin, "tools", "cni")}, ":"),
		},
	}
	if f.NArg() == 0 {
		j.Argv, j.Console, j.Limit = []string{"/usr/bin/bash", "-i"}, true, 24*time.Hour
		j.Env = append(j.Env, "TERM="+os.Getenv("TERM"))
	}
	return f.machine.Run(ctx, j, os.Stdout)
}
