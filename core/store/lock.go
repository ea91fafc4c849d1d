package store

import (
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
)

// LockMode says whether holders of a lock tolerate each other.
type LockMode int

// The modes of a lock.
const (
	Shared    LockMode = iota // with other shared holders
	Exclusive                 // alone
)

// The kinds of locks in the lock file. A kind is the top two bits of an offset,
// so that locks of different kinds never meet.
const (
	transactionLock uint64 = iota
	switchLock
	portLock
	mirrorLock
)

// fOFDSetLockWait is F_OFD_SETLKW (linux/fcntl.h, Linux 3.15): unlike a POSIX
// lock it belongs to an open file, so goroutines exclude each other as well.
const fOFDSetLockWait = 38

// LockPort waits until no other process or goroutine holds the port and holds it
// until unlock is called or the process ends. Take a switch's lock first.
func (s *Store) LockPort(id string) (unlock func(), err error) {
	return s.lock(portLock, id, Exclusive)
}

// LockPorts is LockPort for many, and none twice. They are taken in one order, so that
// those who take several do not wait for each other for ever.
func (s *Store) LockPorts(ids []string) (unlock func(), err error) {
	offsets := make([]uint64, 0, len(ids))
	for _, id := range ids {
		offsets = append(offsets, lockOffset(portLock, id))
	}
	slices.Sort(offsets)
	return s.lockOffsets(slices.Compact(offsets), Exclusive)
}

// LockMirrors waits until nobody else changes where frames of the switch's ports are
// copied to. It comes last: take those of the switch and its ports first.
func (s *Store) LockMirrors(switchName string) (unlock func(), err error) {
	return s.lock(mirrorLock, switchName, Exclusive)
}

// LockShares waits until nobody else changes how the switch's ports share its uplink. Like
// LockMirrors it comes last, and is not held together with that.
func (s *Store) LockShares(switchName string) (unlock func(), err error) {
	return s.lock(mirrorLock, "shares\x00"+switchName, Exclusive)
}

// LockOffloads waits until nobody else decides what the switch's uplink does for its ports.
// Like LockMirrors it comes last.
func (s *Store) LockOffloads(switchName string) (unlock func(), err error) {
	return s.lock(mirrorLock, "offloads\x00"+switchName, Exclusive)
}

// LockSwitch waits for the switch. Verbs on its ports share it, verbs on the
// switch itself are alone. Never take it twice in one goroutine.
func (s *Store) LockSwitch(name string, mode LockMode) (unlock func(), err error) {
	return s.lock(switchLock, name, mode)
}

// lockTransaction makes a transaction wait for those of others before it opens a
// file: bbolt would wait for its own lock by sleeping. Where a reader finds no lock
// file, nobody has written since the boot; from then on flockFile has to do.
func (s *Store) lockTransaction(m mode) (func(), error) {
	if m >= writeRun {
		return s.lock(transactionLock, "", Exclusive)
	}
	fd, err := openFD(s.lockPath, syscall.O_RDONLY)
	if err != nil {
		return func() {}, nil //nolint:nilerr // reading needs no lock to be correct
	}
	return holdRange(fd, s.lockPath, lockRange{offset: lockOffset(transactionLock, ""), kind: syscall.F_RDLCK})
}

// AwaitSwitch is LockSwitch, shared, for who only looks: where there is no lock file, or
// none may be read, there is nobody to wait for.
func (s *Store) AwaitSwitch(name string) (unlock func(), err error) {
	fd, err := openFD(s.lockPath, syscall.O_RDONLY)
	if err != nil {
		return func() {}, nil //nolint:nilerr // reading needs no lock to be correct
	}
	return holdRange(fd, s.lockPath, lockRange{offset: lockOffset(switchLock, name), kind: syscall.F_RDLCK})
}

func (s *Store) lock(kind uint64, name string, mode LockMode) (func(), error) {
	return s.lockOffsets([]uint64{lockOffset(kind, name)}, mode)
}

func (s *Store) lockOffsets(offsets []uint64, mode LockMode) (func(), error) {
	path := s.lockPath
	fd, err := openFD(path, syscall.O_RDWR|syscall.O_CREAT)
	if errors.Is(err, syscall.ENOENT) {
		if err := os.MkdirAll(s.dirs.Run, 0o700); err != nil {
			return nil, unavailable(s.dirs.Run, err)
		}
		fd, err = openFD(path, syscall.O_RDWR|syscall.O_CREAT)
	}
	if err != nil {
		return nil, unavailable(path, err)
	}
	r := lockRange{kind: syscall.F_WRLCK}
	if mode == Shared {
		r.kind = syscall.F_RDLCK
	}
	unlock := func() { _ = syscall.Close(fd) } // of none: lets go of nothing
	for _, r.offset = range offsets {
		if unlock, err = holdRange(fd, path, r); err != nil {
			return nil, err
		}
	}
	return unlock, nil
}

// lockOffset spreads names over the 2^61 offsets of a kind. No goroutine takes two
// locks of one kind on names that others choose in two calls, so a collision costs a
// wait.
func lockOffset(kind uint64, name string) uint64 {
	return kind<<61 | checksum(nil, []byte(name))>>3
}

type lockRange struct {
	offset uint64
	kind   int16 // F_RDLCK or F_WRLCK
}

// holdRange waits for one byte of the file. Closing fd lets go, and so does the
// kernel when the process ends.
func holdRange(fd int, path string, r lockRange) (func(), error) {
	for {
		flock := syscall.Flock_t{Type: r.kind, Whence: io.SeekStart, Start: int64(r.offset), Len: 1}
		err := syscall.FcntlFlock(uintptr(fd), fOFDSetLockWait, &flock)
		if err == nil {
			return func() { _ = syscall.Close(fd) }, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			_ = syscall.Close(fd)
			return nil, unavailable(path, err)
		}
	}
}

// openFD opens without the Go poller, which regular files have no use for and
// which costs system calls.
func openFD(path string, flags int) (int, error) {
	for {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0o600)
		if !errors.Is(err, syscall.EINTR) {
			return fd, err
		}
	}
}

// flockFile takes the lock that bbolt will ask for, and waits for it.
func flockFile(fd int, write bool) error {
	how := syscall.LOCK_SH
	if write {
		how = syscall.LOCK_EX
	}
	for {
		if err := syscall.Flock(fd, how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
