package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Tx is a transaction. It is valid within the function that View, Update or
// UpdateConfig calls and belongs to one goroutine.
type Tx struct {
	store  *Store
	mode   mode
	now    time.Time
	config *file // nil: there is none, or not asked for yet
	run    *file // nil: there is none
	asked  bool  // for the configuration
}

// open opens the run file, and the configuration where it is needed for sure.
func (tx *Tx) open() error {
	boot, err := tx.store.bootID()
	if err != nil {
		return err
	}
	tx.run, err = tx.openFile(runKind(), tx.store.runPath(boot), tx.mode >= writeRun)
	if err != nil {
		return err
	}
	if tx.run != nil && tx.run.fresh {
		tx.run.meta.Boot = boot
		if err := tx.run.writeMeta(); err != nil {
			return err
		}
	}
	if tx.mode == writeBoth || tx.mode == preview || tx.run != nil && tx.run.fresh {
		return tx.openConfig()
	}
	return nil
}

// openFile is openFile with room for what a preview writes.
func (tx *Tx) openFile(kind fileKind, path string, write bool) (*file, error) {
	f, err := openFile(kind, path, write)
	if f != nil {
		f.left = tx.store.mayLeave()
	}
	if err != nil || tx.mode != preview {
		return f, err
	}
	if f == nil {
		f = &file{kind: kind, path: path}
	}
	f.overlay = newOverlay()
	return f, nil
}

// openConfig opens the configuration once. The transactions that release a port
// never ask for it.
func (tx *Tx) openConfig() (err error) {
	if tx.asked {
		return nil
	}
	path := filepath.Join(tx.store.dirs.State, "config.db")
	tx.config, err = tx.openFile(configKind(), path, tx.mode == writeBoth)
	if err != nil {
		return err
	}
	if tx.run != nil && tx.config != nil && tx.config.fellBehind(tx.run.meta.Config) {
		return tx.config.fault(fmt.Errorf("its newest header is torn, and change %d is lost with it", tx.run.meta.Config))
	}
	tx.asked = true
	if tx.mode == readOnly || tx.run.meta.Config == tx.config.version() {
		return nil
	}
	if err := tx.syncHostMACs(); err != nil {
		return err
	}
	tx.run.meta.Config = tx.config.version()
	return tx.run.writeMeta()
}

func (tx *Tx) configTable(name string) (table, error) {
	err := tx.openConfig()
	return tx.config.table(name), err
}

// commit writes the configuration, then the run file: see UpdateConfig.
func (tx *Tx) commit() error {
	if tx.mode < writeRun {
		return nil
	}
	fresh := tx.run.fresh
	if tx.mode == writeBoth {
		tx.run.meta.Config = tx.config.tx.ID()
		if err := tx.run.writeMeta(); err != nil {
			return err
		}
		if err := tx.config.commit(); err != nil {
			return err
		}
	}
	if err := tx.run.commit(); err != nil {
		return err
	}
	if fresh {
		tx.store.removeOtherBoots(tx.run.path)
	}
	return nil
}

// close undoes what was not committed.
func (tx *Tx) close() {
	tx.run.close()
	tx.config.close()
}

const (
	runPrefix = "ports-"
	runSuffix = ".db"
)

// runPath names the run file after the boot, so that what a power failure did to
// an earlier one is of no concern.
func (s *Store) runPath(boot string) string {
	return filepath.Join(s.dirs.Run, fmt.Sprintf("%s%016x%s", runPrefix, checksum(nil, []byte(boot)), runSuffix))
}

// removeOtherBoots removes the run files of earlier boots. One that stays behind
// takes space and does no harm.
func (s *Store) removeOtherBoots(current string) {
	entries, _ := os.ReadDir(s.dirs.Run)
	for _, e := range entries {
		path := filepath.Join(s.dirs.Run, e.Name())
		if strings.HasPrefix(e.Name(), runPrefix) && strings.HasSuffix(e.Name(), runSuffix) && path != current {
			_ = os.Remove(path)
		}
	}
}

// checkKey refuses what cannot be part of a key.
func checkKey(what, s string) error {
	const longest = 1024
	if s == "" || len(s) > longest || strings.ContainsRune(s, 0) {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: what, Err: fmt.Errorf("%.80q cannot be a key of the store", s)}
	}
	return nil
}

// Fact decodes into v what PutFact stored under key since the boot and reports
// whether there was something.
func (tx *Tx) Fact(key string, v any) (bool, error) {
	return tx.run.table(factTable).load(key, v)
}

// PutFact keeps a small value until the reboot. v is encoded as JSON.
func (tx *Tx) PutFact(key string, v any) error {
	if err := checkKey("fact", key); err != nil {
		return err
	}
	return tx.run.table(factTable).store(key, v)
}
