// Command patchbayd carries out Patchbay's verbs for the command patchbay and the
// CNI plugin, and keeps the switches of this host as they were made.
//
// Nothing depends on it: where it does not run, every program works by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/patchbay-net/patchbay/core/api"
)

// version is set by the linker.
var version = "dev"

const usage = `patchbayd keeps this host's virtual switches as they were made, and carries out the
verbs of the command patchbay and of the CNI plugin, which find it by its socket.

  patchbayd                     run in the foreground, log to standard error
  systemctl enable --now patchbayd.socket patchbayd.service
                                run as a service, started by the first who asks

Nothing depends on it. Where it does not run, is stopped or crashes, commands and
containers go on working; what it adds:

  - what somebody changes behind Patchbay's back (a flushed ruleset, a bridge taken
    down, a port deleted) is put back at once; patchbay status lists the repairs
  - after a boot the switches are made before the first container comes

The socket is patchbayd.sock in /run/patchbay, or in the directory that
PATCHBAY_RUN_DIR names; PATCHBAY_STATE_DIR names another /var/lib/patchbay. Only
root may use it, and only from the network namespace that patchbayd runs in.
It understands socket activation (LISTEN_FDS), READY, STOPPING and WATCHDOG of
sd_notify(3), and ends on SIGTERM when what it has begun is done.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal asks, the second one kills
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program but for the process; it returns the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("patchbayd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage) //nolint:errcheck // there is nowhere left to say so
		flags.PrintDefaults()
	}
	level := flags.String("log-level", "info", "how much to log: debug, info, warn or error")
	show := flags.Bool("version", false, "print the version and end")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(*level)); err != nil || flags.NArg() > 0 {
		fmt.Fprintf(stderr, "patchbayd: run `patchbayd --help`: %v is not understood\n", args) //nolint:errcheck // as above
		return 2
	}
	if *show {
		fmt.Printf("patchbayd %s\n", version)
		return 0
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: l}))
	d := daemon{dirs: api.Dirs(), log: log, getenv: os.Getenv}
	if err := d.run(ctx); err != nil {
		fmt.Fprintf(stderr, "patchbayd: %v\n", err) //nolint:errcheck // as above
		return 1
	}
	return 0
}
