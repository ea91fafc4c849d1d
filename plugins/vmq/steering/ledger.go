package steering

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// grant is what a port holds.
type grant struct {
	Port       string      `json:"port"`
	Generation uint64      `json:"generation"`
	MAC        vswitch.MAC `json:"mac"`
	VLAN       int         `json:"vlan,omitempty"` // the port's
	// RuleVLAN is the rule's: 0 with a driver whose rules cannot match one.
	RuleVLAN int `json:"ruleVLAN,omitempty"`
	Queue    int `json:"queue"`
}

func (g grant) told(nic string) sdk.Grant {
	return sdk.Grant{Ref: g.ref(), NIC: nic, Generation: g.Generation, Queue: g.Queue}
}

func (g grant) ref() sdk.Ref { return sdk.Ref{Port: g.Port, Feature: vswitch.VMQ} }

// record is a NIC that was changed: how it was found, and what ports hold.
type record struct {
	// Index is the netdev's. With another one the driver was bound anew, and nothing of this
	// is true any more.
	Index  int  `json:"ifindex"`
	NTuple bool `json:"ntuple"` // rules were on
	// Table is the indirection table; nil for the driver's own.
	Table  []uint32 `json:"indirection,omitempty"`
	Grants []grant  `json:"grants,omitempty"`

	applied []uint32 // the table that this process set, if that is certain
}

// ledger is the file that says what was changed. One process has it at a time.
type ledger struct {
	path string
	lock *os.File
	nics map[string]*record
}

// stored is the file's content.
type stored struct {
	Version int                `json:"version"`
	NICs    map[string]*record `json:"nics"`
}

// Bounds of what is believed.
const (
	ledgerVersion = 1
	maxLedger     = 4 << 20
	maxQueue      = 1<<16 - 1
	maxEntries    = 1 << 16
)

// openLedger reads the file and keeps others away from it. One that cannot be understood is
// put aside: what it would have said is then taken for somebody else's.
func openLedger(path string) (*ledger, error) {
	fail := func(err error) (*ledger, error) {
		return nil, &vswitch.Error{Kind: vswitch.StoreUnavailable, Object: path, Field: keyState, Err: err}
	}
	if !filepath.IsAbs(path) {
		return nil, &vswitch.Error{Kind: vswitch.Invalid, Object: path, Field: keyState, Err: errors.New("not an absolute path")}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fail(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		return nil, &vswitch.Error{
			Kind: vswitch.InUse, Object: path, Field: keyState, Err: errors.New("another process of this plugin has it"),
			Hint: "end that process, or set another file",
		}
	}
	l := &ledger{path: path, lock: lock, nics: map[string]*record{}}
	text, err := readBounded(path)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		l.nics, err = parseLedger(text)
	}
	if err == nil {
		return l, nil
	}
	slog.Error("the state cannot be understood, and is put aside; rules that it would have named are taken for somebody else's", "file", path, "as", path+".bad", "err", err)
	l.nics = map[string]*record{}
	if err := os.Rename(path, path+".bad"); err != nil {
		l.close()
		return fail(err)
	}
	return l, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(f, maxLedger+1))
}

// parseLedger reads and validates the file's content.
func parseLedger(text []byte) (map[string]*record, error) {
	if len(text) > maxLedger {
		return nil, fmt.Errorf("larger than %d bytes", maxLedger)
	}
	var s stored
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, err
	}
	if s.Version != ledgerVersion {
		return nil, fmt.Errorf("version %d, not %d", s.Version, ledgerVersion)
	}
	if s.NICs == nil {
		s.NICs = map[string]*record{}
	}
	ports := map[string]bool{}
	for id, r := range s.NICs {
		if r == nil || id == "" || r.Index < 1 || len(r.Table) > maxEntries || slices.ContainsFunc(r.Table, func(q uint32) bool { return q > maxQueue }) {
			return nil, fmt.Errorf("NIC %.80q: no netdev's number, or an indirection table of no NIC", id)
		}
		queues := map[int]bool{}
		for _, g := range r.Grants {
			if err := g.validate(); err != nil {
				return nil, fmt.Errorf("NIC %.80q: %w", id, err)
			}
			if ports[g.Port] || queues[g.Queue] {
				return nil, fmt.Errorf("NIC %.80q: port %.80q or queue %d is there twice", id, g.Port, g.Queue)
			}
			ports[g.Port], queues[g.Queue] = true, true
		}
	}
	return s.NICs, nil
}

func (g grant) validate() error {
	if err := errors.Join(g.ref().Validate(), g.MAC.ValidateStatic()); err != nil {
		return err
	}
	if g.VLAN < 0 || g.VLAN > 4094 || g.RuleVLAN != 0 && g.RuleVLAN != g.VLAN || g.Queue < 1 || g.Queue > maxQueue {
		return fmt.Errorf("port %.80q: VLAN %d, in the rule %d, or queue %d is none", g.Port, g.VLAN, g.RuleVLAN, g.Queue)
	}
	return nil
}

// save writes the file, all of it or nothing. It is where a boot ends it too, so nothing is
// synced to a disk.
func (l *ledger) save() error {
	text, err := json.MarshalIndent(stored{ledgerVersion, l.nics}, "", "\t")
	if err == nil {
		err = os.WriteFile(l.path+".new", append(text, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(l.path+".new", l.path)
	}
	if err != nil {
		return &vswitch.Error{Kind: vswitch.StoreUnavailable, Object: l.path, Err: err}
	}
	return nil
}

// close lets others have the file.
func (l *ledger) close() { _ = l.lock.Close() } // nothing was written to it

// held is what ports hold of a NIC.
func (l *ledger) held(id string) []grant {
	if r := l.nics[id]; r != nil {
		return r.Grants
	}
	return nil
}

// of is what a port holds, and of which NIC.
func (l *ledger) of(port string) (id string, g grant, granted bool) {
	for id, r := range l.nics {
		for _, g := range r.Grants {
			if g.Port == port {
				return id, g, true
			}
		}
	}
	return "", grant{}, false
}

// ids are the NICs of the ledger, in order.
func (l *ledger) ids() []string { return slices.Sorted(maps.Keys(l.nics)) }

// without removes a port's grant.
func (r *record) without(port string) {
	r.Grants = slices.DeleteFunc(slices.Clone(r.Grants), func(g grant) bool { return g.Port == port })
}
