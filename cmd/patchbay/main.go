// Command patchbay shows and changes the switches, ports and MAC addresses of
// this host.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/kernel"
)

//go:generate go run . docs markdown ../../docs/cli

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal asks, the second one kills
	c := cli{
		open:     api.Open,
		capture:  kernel.Capture,
		stdin:    os.Stdin,
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		terminal: detectTerminal(os.Stdout, os.Getenv),
		root:     os.Geteuid() == 0,
	}
	code := c.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
