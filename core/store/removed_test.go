package store

import (
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A port that is put back is what it was, with its leases; not where somebody else has
// been given one of its addresses.
func TestReturnPort(t *testing.T) {
	f := newFixture(t)
	f.update(t, func(tx *Tx) error { return attach(tx, "pb1", "prod") })
	before := checkConsistent(t, f.Store)
	var gone Removed
	remove := func(tx *Tx) (err error) {
		gone, err = tx.RemovePort("pb1")
		return err
	}
	f.update(t, remove)
	wantEqual(t, len(checkConsistent(t, f.Store)), 0)
	f.update(t, func(tx *Tx) error { return tx.ReturnPort(gone) })
	wantEqual(t, checkConsistent(t, f.Store), before)
	wantKind(t, f.Update(func(tx *Tx) error { return tx.ReturnPort(gone) }), vswitch.InUse)
	wantKind(t, f.Update(func(tx *Tx) error { _, err := tx.RemovePort("pb2"); return err }), vswitch.NotFound)

	f.update(t, remove)
	f.update(t, func(tx *Tx) error { return tx.HoldIP("prod", gone.Port.Addresses[0].Prefix.Addr(), "pb2") })
	wantKind(t, f.Update(func(tx *Tx) error { return tx.ReturnPort(gone) }), vswitch.InUse)
	f.update(t, func(tx *Tx) error { return tx.DeletePort("pb2") })
	f.update(t, func(tx *Tx) error { return tx.ReturnPort(gone) })
	wantEqual(t, checkConsistent(t, f.Store), before)
}
