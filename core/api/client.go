package api

import (
	"io"
	"os"
	"sync"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/wire"
)

// HostRootEnv names where the host's own files are, for a Patchbay that runs in a
// container: those by which network managers tell what they manage.
const HostRootEnv = "PATCHBAY_HOST_ROOT"

// Client is a face's way to the verbs.
type Client struct{ Verbs }

// Open returns a client for this host. It touches nothing until a verb is used;
// then it asks patchbayd, and where none answers, or one that serves another host
// or is of another build, it carries the verb out in its own process.
func Open() *Client {
	dirs := Dirs()
	return &Client{&remote{
		socket: wire.SocketPath(dirs.Run), dirs: dirs, build: wire.Build,
		local: sync.OnceValue(func() Verbs { return OpenEngine(dirs) }),
	}}
}

// OpenAlone is Open for who knows that patchbayd does not answer.
func OpenAlone() *Client { return &Client{OpenEngine(Dirs())} }

// OpenEngine returns the engine of this host in the caller's own process.
func OpenEngine(dirs store.Dirs) *engine.Engine {
	return openEngine(store.Config{Dirs: dirs, Brief: true}, kernel.NewLinux(), nil)
}

// OpenResident is OpenEngine for a process that stays, as patchbayd does: it answers
// deletions early. Close waits for what goes on behind the answers and has to be
// called when the last verb has ended.
//
// hardware is what it has of plugins, nil for nothing.
func OpenResident(dirs store.Dirs, hardware engine.Hardware) (*engine.Engine, io.Closer) {
	k := kernel.NewResidentLinux()
	return openEngine(store.Config{Dirs: dirs}, k, hardware), k
}

func openEngine(c store.Config, k kernel.Kernel, hardware engine.Hardware) *engine.Engine {
	return engine.New(engine.Config{
		Kernel:   kernel.WithFaults(k),
		Store:    store.New(c),
		Hardware: hardware,

		HostRoot: os.Getenv(HostRootEnv),
	})
}

// Dirs are the directories that the environment names, or else the default ones.
func Dirs() Directories {
	state, run := wire.Dirs()
	return store.Dirs{State: state, Run: run}
}

// Directories are where the store and the socket live.
type Directories = store.Dirs
