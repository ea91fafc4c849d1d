package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/patchbay-net/patchbay/sdk/host"
)

// Config says which plugins a host has.
type Config struct {
	Dirs      []string // where they are; see host.Dirs
	Checksums string   // the file of their checksums
	Settings  string   // the directory of their configurations, NAME.json
	RunDir    string   // below which their sockets are
	Log       *slog.Logger
	// Resident keeps them running, and notices when one is installed, changed or removed;
	// others are started by the first call.
	Resident bool
}

// Open starts all plugins of a host. One that may not be started, or does not start, has a
// reason in Look; the others work.
func Open(c Config) *Fleet {
	f := New(c.Log)
	f.config = c
	if !c.Resident {
		f.refresh()
		return f
	}
	_ = os.RemoveAll(filepath.Join(c.RunDir, "plugins")) // there is one such fleet: they are sockets of one that was killed
	w, err := newWatch(c)
	f.refresh()
	if err != nil {
		c.Log.Warn("plugins that are installed from now on are not noticed: restart patchbayd for them", "err", err)
		return f
	}
	f.done.Go(func() {
		if err := w.run(f.life, f.refresh); err != nil {
			c.Log.Warn("plugins that are installed from now on are not noticed: restart patchbayd for them", "err", err)
		}
	})
	return f
}

// installation is a plugin as it is on disk.
type installation struct {
	host.Executable
	settings []byte
	err      error // why it is not started
	// origin is another one whenever the program, its settings or what is said of its trust
	// are others.
	origin string
}

func (c Config) installation(e host.Executable, sums host.Checksums) installation {
	in := installation{Executable: e}
	in.settings, in.err = host.ReadSettings(c.Settings, e.Name)
	in.origin = fmt.Sprint(e.Path, e.Verify(sums), in.err, string(in.settings))
	var stat syscall.Stat_t
	if syscall.Stat(e.Path, &stat) == nil { // or else Verify has said why
		in.origin += fmt.Sprint(stat.Dev, stat.Ino, stat.Size, stat.Mtim, stat.Ctim)
	}
	return in
}

// all is the name of what is wrong with all plugins.
const all = "all"

// refresh starts the plugins that are new, ends those that are gone, and starts those anew
// that are others by now, whatever they failed with before.
func (f *Fleet) refresh() {
	found, err := host.Find(f.config.Dirs...)
	sums, sumsErr := host.ReadChecksums(f.config.Checksums)
	if err = errors.Join(err, sumsErr); err != nil {
		f.fails(all, f.member(all), err.Error())
		f.log.Error("no other plugin is started", "err", err)
		return
	}
	there := make(map[string]installation, len(found))
	for _, e := range found {
		there[e.Name] = f.config.installation(e, sums)
	}
	f.mu.Lock()
	members := maps.Clone(f.members)
	f.mu.Unlock()
	for name, m := range members {
		if in, is := there[name]; !is {
			f.retire(name, m, "it is not installed any more")
			f.forget(name)
		} else if in.origin != m.origin {
			f.retire(name, m, "it was changed, and is started anew")
		} else {
			delete(there, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		f.start(there[name], sums)
	}
}

// start adds a plugin, in the place of one with its name that has been retired.
func (f *Fleet) start(in installation, sums host.Checksums) {
	m := f.member(in.Name)
	m.origin = in.origin
	if in.err != nil {
		f.fails(in.Name, m, in.err.Error())
		f.log.Error("plugin is not started", "plugin", in.Name, "err", in.err)
		return
	}
	p := host.Open(host.Options{
		Executable: in.Executable, Config: in.settings, RunDir: f.config.RunDir, Log: f.log, Checksums: sums, Resident: f.config.Resident,
		OnChange: func(s host.Status) {
			if s.State == host.Waiting || s.State == host.Broken {
				f.fails(in.Name, m, s.LastFailure)
			}
		},
	})
	f.mu.Lock()
	m.plugin, m.close = p, p.Close
	f.mu.Unlock()
	f.follow(in.Name, m)
}

// retire ends a plugin. Until another one is in its place its NICs can do nothing.
func (f *Fleet) retire(name string, m *member, why string) {
	if name != all {
		f.log.Info("plugin is ended", "plugin", name, "why", why)
	}
	m.end()
	f.fails(name, m, why)
	if m.close != nil {
		m.close()
	}
}

// forget has it that there is no such plugin, which holds nothing then.
func (f *Fleet) forget(name string) {
	f.mu.Lock()
	m := f.members[name]
	delete(f.members, name)
	f.mu.Unlock()
	f.stir(name, m)
}
