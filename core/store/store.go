package store

import (
	"cmp"
	"errors"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Dirs are the two directories of a store.
type Dirs struct {
	State string // configuration, outlives a reboot
	Run   string // ports, leases and locks, until the reboot
}

// DefaultDirs are those of an installed Patchbay.
func DefaultDirs() Dirs { return Dirs{State: "/var/lib/patchbay", Run: "/run/patchbay"} }

// DefaultQuarantine is how long a released address rests: about as long as
// neighbours keep a stale entry for it.
const DefaultQuarantine = 60 * time.Second

// Config is what a store works with; the zero value of a field means its default.
type Config struct {
	Dirs       Dirs
	BootID     string           // default: the kernel's
	MachineID  string           // default: /etc/machine-id; the default MAC range derives from it
	Now        func() time.Time // default: time.Now
	Quarantine time.Duration    // default: DefaultQuarantine
	// Brief is for a process that ends with its verb: what it has mapped of the files goes
	// with it, since to take that away page by page takes as long as to read it.
	Brief bool
}

// Store is a handle on the two files. It holds nothing open between calls and may
// be used by any number of goroutines and processes at the same time.
type Store struct {
	dirs       Dirs
	lockPath   string
	now        func() time.Time
	quarantine time.Duration
	bootID     func() (string, error)
	machineID  func() string
	brief      bool
	left       atomic.Int32 // mappings that a brief process has left
}

// New returns a store and touches nothing.
func New(c Config) *Store {
	s := &Store{dirs: c.Dirs, now: c.Now, quarantine: cmp.Or(c.Quarantine, DefaultQuarantine), brief: c.Brief}
	if s.dirs == (Dirs{}) {
		s.dirs = DefaultDirs()
	}
	s.lockPath = filepath.Join(s.dirs.Run, "locks")
	if s.now == nil {
		s.now = time.Now
	}
	s.bootID = sync.OnceValues(func() (string, error) {
		if c.BootID != "" {
			return c.BootID, nil
		}
		return readBootID()
	})
	s.machineID = sync.OnceValue(func() string { return cmp.Or(c.MachineID, readMachineID()) })
	return s
}

// View runs fn on a snapshot of both files. A file that does not exist reads as
// empty; nothing is created, and a read-only directory is no obstacle.
func (s *Store) View(fn func(*Tx) error) error { return s.transact(readOnly, fn) }

// Update runs fn with the run file writable and the configuration readable, and
// keeps what fn wrote if it returns nil. Otherwise nothing is written.
func (s *Store) Update(fn func(*Tx) error) error { return s.transact(writeRun, fn) }

// UpdateConfig runs fn with both files writable. The configuration is committed
// and synced first, the run file second. A crash in between leaves the run file
// one configuration behind; it records which one it knows, and the next
// transaction that writes brings the host ports' MAC addresses up to date. All
// else in the run file is for ports, which have transactions of their own. An
// error of the second commit is returned although the configuration is changed:
// repeating the verb completes it.
func (s *Store) UpdateConfig(fn func(*Tx) error) error { return s.transact(writeBoth, fn) }

// Preview runs fn as UpdateConfig does and keeps nothing of what it wrote: fn alone reads
// it. As with View nothing is created, and a read-only directory is no obstacle.
func (s *Store) Preview(fn func(*Tx) error) error { return s.transact(preview, fn) }

// mode is what a transaction may write.
type mode int

const (
	readOnly mode = iota
	preview
	writeRun
	writeBoth
)

// mayLeave reports whether one more mapping may be left to the end of the process: a verb
// on thousands of ports has as many transactions, and a process 65530 mappings.
func (s *Store) mayLeave() bool {
	const most = 16
	return s.brief && s.left.Add(1) <= most
}

func (s *Store) transact(m mode, fn func(*Tx) error) error {
	unlock, err := s.lockTransaction(m)
	if err != nil {
		return err
	}
	defer unlock()
	if m == writeBoth {
		// Should the run file miss this commit, it must know that it may: it opens
		// the configuration before it leases the next MAC address.
		if err := s.locked(writeRun, (*Tx).forgetRange); err != nil && !errors.Is(err, errUnchanged) {
			return err
		}
	}
	return s.locked(m, fn)
}

// locked is a transaction of a process that holds the lock.
func (s *Store) locked(m mode, fn func(*Tx) error) error {
	// The files are mapped into memory: reading a page that is not there any more
	// raises SIGBUS, which must become a panic that table.go and file.go recover.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))

	tx := &Tx{store: s, mode: m, now: s.now()}
	defer tx.close()
	if err := tx.open(); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.commit()
}
