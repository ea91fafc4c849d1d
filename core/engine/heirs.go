package engine

import (
	"slices"

	"github.com/patchbay-net/patchbay/core/store"
)

// joinHeirs adds to the transaction the switches that a killed process was giving an
// uplink of its switches to, with what the host has on it: taken back alone, the host
// would come home to a NIC that is in another switch. It takes their locks; the caller
// holds that of all switches.
func (e *Engine) joinHeirs(t *transaction) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, let := range slices.Backward(held) {
			let()
		}
	}
	heirs, err := e.heirs(t)
	for _, r := range heirs {
		let, err := e.store.LockSwitch(r.Name, store.Exclusive)
		if err != nil {
			unlock()
			return func() {}, err
		}
		held = append(held, let)
		was, is := r, r
		t.changes = append(t.changes, change{old: &was, new: &is})
	}
	return unlock, err
}

func (e *Engine) heirs(t *transaction) (heirs []store.SwitchRecord, err error) {
	all, err := e.crews(t)
	if err != nil {
		return nil, err
	}
	leaves := t.olds()
	var records []store.SwitchRecord
	err = e.store.View(func(tx *store.Tx) error {
		for _, name := range t.names() {
			was, found, err := tx.Realised(name)
			if err != nil {
				return err
			}
			if found && was.Changing {
				leaves = append(leaves, was.SwitchRecord)
			}
		}
		records, err = tx.Switches()
		return err
	})
	for _, r := range records {
		mine := func(l store.SwitchRecord) bool { return l.Host != store.HostElsewhere && all.share(l.Uplink, r.Uplink) }
		if !slices.Contains(t.names(), r.Name) && slices.ContainsFunc(leaves, mine) {
			heirs = append(heirs, r)
		}
	}
	return heirs, err
}
