package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/patchbay-net/patchbay/core/mortal"
)

// schemaVersion is the format of buckets and values that this package writes.
const schemaVersion = 1

// fileKind is what the two files differ in.
type fileKind struct {
	tables   []string
	synced   bool   // every commit reaches the disk
	recovery string // what to do once a corrupt file is out of the way
}

func configKind() fileKind {
	return fileKind{
		tables: []string{metaTable, switchTable, settingTable}, synced: true,
		recovery: "restore a backup, or define the switches anew with `patchbay switch add`",
	}
}

func runKind() fileKind {
	return fileKind{
		tables:   []string{metaTable, portTable, memberTable, countTable, leaseTable, restTable, poolTable, factTable},
		recovery: "restart the containers that have a port and run `patchbay gc`, which removes the ports nobody owns",
	}
}

// fileMeta is a file's own record of what it is.
type fileMeta struct {
	Schema int
	By     string // version of the Patchbay that made the file
	Boot   string // run file: the boot it belongs to
	// Config is the run file's knowledge of the configuration: the number of its
	// last transaction whose host ports are among the leases.
	Config int
}

const metaKey = "file"

// file is one open database with its one transaction.
type file struct {
	kind     fileKind
	path     string // where it is or will be
	fresh    bool   // it is still under another name
	writable bool
	overlay  *overlay // what is written, in a transaction that keeps nothing of it
	meta     fileMeta
	fd       *os.File
	pages    *pageFile // nil: fresh, nothing to check
	db       *bbolt.DB
	tx       *bbolt.Tx
	broken   bool // bbolt panicked where it holds its locks: it must not be called again
	left     bool // the mapping stays until the process ends
}

// openFile opens the database at path and begins a transaction. Without a file it
// returns nil if nothing is to be written, else one that will take that name.
func openFile(kind fileKind, path string, write bool) (*file, error) {
	f := &file{kind: kind, path: path, writable: write}
	err := f.openExisting()
	if errors.Is(err, fs.ErrNotExist) {
		if !write {
			return nil, nil
		}
		err = f.openFresh()
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *file) openExisting() error {
	flags := syscall.O_RDONLY
	if f.writable {
		flags = syscall.O_RDWR
	}
	fd, err := openFD(f.path, flags)
	if errors.Is(err, syscall.ENOENT) {
		return fs.ErrNotExist
	} else if err != nil {
		return unavailable(f.path, err)
	}
	f.fd = os.NewFile(uintptr(fd), f.path)
	if err := flockFile(fd, f.writable); err != nil {
		return unavailable(f.path, err)
	}
	if f.pages, err = checkHeader(f.fd, !f.kind.synced); err != nil {
		return f.fault(err)
	}
	if err := f.pages.checkTree(); err != nil {
		return f.fault(err)
	}
	if f.writable {
		if err := f.pages.checkUses(); err != nil {
			return f.fault(err)
		}
	}
	if err := f.begin(); err != nil {
		return err
	}
	return f.readMeta()
}

// tempPath is where a file is made. Only the holder of the transaction lock makes
// one, so what is found there was left by a process that was killed.
func (f *file) tempPath() string { return f.path + ".new" }

func (f *file) openFresh() error {
	f.fresh = true
	flags := syscall.O_RDWR | syscall.O_CREAT | syscall.O_TRUNC
	fd, err := openFD(f.tempPath(), flags)
	if errors.Is(err, syscall.ENOENT) {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			return unavailable(filepath.Dir(f.path), err)
		}
		fd, err = openFD(f.tempPath(), flags)
	}
	if err != nil {
		return unavailable(f.path, err)
	}
	f.fd = os.NewFile(uintptr(fd), f.tempPath())
	if err := f.begin(); err != nil {
		return err
	}
	for _, name := range f.kind.tables {
		if _, err := f.tx.CreateBucket([]byte(name)); err != nil {
			return f.fault(err)
		}
	}
	f.meta = fileMeta{Schema: schemaVersion, By: buildVersion()}
	return f.writeMeta()
}

// begin hands the open file to bbolt and starts the transaction.
func (f *file) begin() (err error) {
	defer f.recoverBroken(&err)
	db, err := bbolt.Open(f.path, 0o600, &bbolt.Options{
		ReadOnly:     !f.writable,
		NoSync:       !f.kind.synced,
		NoGrowSync:   !f.kind.synced,
		FreelistType: bbolt.FreelistArrayType, // read once, used once: a map is not worth making
		NoStatistics: true,
		Timeout:      time.Minute, // never waited for by those who hold our lock
		OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return f.fd, nil },
	})
	if err != nil {
		return f.fault(err)
	}
	f.db = db
	f.tx, err = db.Begin(f.writable)
	return f.fault(err)
}

func (f *file) readMeta() error {
	var meta fileMeta
	found, err := f.table(metaTable).load(metaKey, &meta)
	if err != nil {
		return err
	}
	if !found {
		return f.fault(errors.New("it has no record of its format"))
	}
	if meta.Schema > schemaVersion {
		return newer(f.path, meta.By, meta.Schema)
	}
	f.meta = meta
	return nil
}

func (f *file) writeMeta() error { return f.table(metaTable).store(metaKey, &f.meta) }

// version is the number of the file's last committed transaction, 0 for none.
func (f *file) version() int {
	switch {
	case f == nil || f.fresh || f.db == nil:
		return 0
	case f.writable:
		return f.tx.ID() - 1
	}
	return f.tx.ID()
}

// fellBehind reports that the file has lost a commit which somebody knows to have
// succeeded: one of its two headers is torn. That of a backup is older, but whole.
func (f *file) fellBehind(known int) bool {
	return f.pages != nil && f.pages.fellBack && f.version() < known
}

// commit makes the transaction's writes permanent and a fresh file visible.
func (f *file) commit() error {
	mortal.Point()
	defer mortal.Point()
	if err := f.commitTx(); err != nil {
		return err
	}
	if !f.fresh {
		return nil
	}
	mortal.Point()
	if err := os.Rename(f.tempPath(), f.path); err != nil {
		return unavailable(f.path, err)
	}
	f.fresh = false
	if f.kind.synced {
		return syncDir(filepath.Dir(f.path))
	}
	return nil
}

func (f *file) commitTx() (err error) {
	defer f.recoverBroken(&err)
	err = f.tx.Commit()
	f.tx = nil
	return f.fault(withErrno(err))
}

// close undoes what was not committed and lets go of the file.
func (f *file) close() {
	if f == nil {
		return
	}
	f.closeDB()
	if f.fd != nil && (f.broken || f.left || f.db == nil) {
		// The mapping that bbolt leaves behind would keep bbolt's lock alive.
		_ = syscall.Flock(int(f.fd.Fd()), syscall.LOCK_UN)
		_ = f.fd.Close()
	}
	if f.fresh {
		_ = os.Remove(f.tempPath())
	}
}

func (f *file) closeDB() {
	var err error
	defer f.recoverBroken(&err)
	if f.db == nil || f.broken {
		return
	}
	if f.tx != nil {
		_ = f.tx.Rollback()
	}
	if !f.left {
		_ = f.db.Close() // commit has told of any failed write
	}
}

// fault makes an error of bbolt or of the checks one of ours.
func (f *file) fault(err error) error {
	switch {
	case err == nil:
		return nil
	case isSystem(err):
		return unavailable(f.path, err)
	case errors.Is(err, errFormatNewer):
		return newer(f.path, "of another make", schemaVersion+1)
	}
	return f.kind.corrupt(f.path, err)
}

// recoverBroken turns a panic where bbolt may hold its own locks into an error.
func (f *file) recoverBroken(err *error) {
	if r := recover(); r != nil {
		f.broken = true
		*err = f.fault(fmt.Errorf("unreadable page: %v", r))
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return unavailable(dir, err)
	}
	defer d.Close() //nolint:errcheck // nothing was written through it
	if err := d.Sync(); err != nil {
		return unavailable(dir, err)
	}
	return nil
}

// buildVersion is the module version as the linker noted it.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
