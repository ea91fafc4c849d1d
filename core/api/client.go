package api

import (
	"os"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
)

// Where the store lives can be moved, for tests and for several hosts on one
// machine, each in a network namespace of its own.
const (
	StateDirEnv = "PATCHBAY_STATE_DIR" // instead of /var/lib/patchbay
	RunDirEnv   = "PATCHBAY_RUN_DIR"   // instead of /run/patchbay
)

// Client is a face's way to the verbs.
type Client struct{ *engine.Engine }

// Open returns a client for this host. It touches nothing until a verb is used.
func Open() *Client {
	dirs := store.DefaultDirs()
	if d := os.Getenv(StateDirEnv); d != "" {
		dirs.State = d
	}
	if d := os.Getenv(RunDirEnv); d != "" {
		dirs.Run = d
	}
	return &Client{engine.New(engine.Config{
		Kernel: kernel.WithFaults(kernel.NewLinux()),
		Store:  store.New(store.Config{Dirs: dirs}),
	})}
}
