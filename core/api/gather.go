package api

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"github.com/patchbay-net/patchbay/core/wire"
)

// Gather carries out a deletion of the plugin's, own, where patchbayd does not answer.
// Until that has ended it carries out those of other processes too, with one wait for
// the kernel for all of them: they hand their calls over as they would to patchbayd. One
// process of a host gathers; where another one does, that one's answer to c is returned,
// and without an answer own's.
func Gather(ctx context.Context, c wire.Call, plugin Plugin, own func(Verbs) wire.Answer) wire.Answer {
	dirs := Dirs()
	verbs := OpenEngine(dirs)
	g, others := gather(dirs)
	if others {
		if a, done := wire.AskGathering(c); done {
			return a
		}
	}
	if g == nil {
		return own(verbs)
	}
	s, err := newPluginServer(ServerConfig{Verbs: verbs, Plugin: plugin, Dirs: dirs, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		g.end()
		return own(verbs)
	}
	runtime.GOMAXPROCS(2) // others come while this one is in the kernel
	serving, stop := context.WithCancel(ctx)
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(serving, g.listener) }) // who is not accepted works alone
	a := own(verbs)
	g.end()
	stop() // nor is anybody waited for who has not said what he wants
	served.Wait()
	return a
}

// gathering is where others find this process.
type gathering struct {
	lock     *os.File // of the one that gathers
	listener *net.UnixListener
}

// gather begins to listen; nil if that cannot be, or if others gather already.
func gather(dirs Directories) (g *gathering, others bool) {
	lock, err := os.OpenFile(filepath.Join(dirs.Run, "gathering.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false // nothing has been attached since the boot, or nothing can be written
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		path := wire.GatheringPath(dirs.Run)
		_ = os.Remove(path) // of a process that was killed
		var l *net.UnixListener
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err == nil {
			return &gathering{lock: lock, listener: l}, false
		}
	}
	_ = lock.Close()
	return nil, err == syscall.EWOULDBLOCK //nolint:errorlint // an errno, bare
}

// end has the next one gather. Who has been accepted gets an answer still.
func (g *gathering) end() {
	_ = g.listener.Close() // removes the name as well
	_ = g.lock.Close()
}
