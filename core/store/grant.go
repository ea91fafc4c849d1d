package store

import (
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Grant is what a port has of a NIC, or is about to get or to lose: it is written before a
// plugin is asked, and outlives the port until the plugin has taken back what it gave.
type Grant struct {
	// Request is the last that was asked for.
	Request vswitch.OffloadRequest `json:"request"`
	Plugin  string                 `json:"plugin"`
	Switch  string                 `json:"switch"`
	// Given is what the plugin gave; nil while nobody knows.
	Given *vswitch.OffloadGrant `json:"given,omitempty"`
	// Going says that it is to be taken back.
	Going bool `json:"going,omitempty"`
}

const grantPrefix = "grant\x00"

func grantKey(ref vswitch.OffloadRef) string {
	return grantPrefix + ref.Port + "\x00" + string(ref.Feature)
}

// Grants returns all grants, by port and feature.
func (tx *Tx) Grants() ([]Grant, error) {
	t := tx.run.table(factTable)
	var all []Grant
	err := t.walk(grantPrefix, grantPrefix, func(r row) error {
		var g Grant
		err := t.decode(r.body, &g)
		all = append(all, g)
		return err
	})
	return all, err
}

// PutGrant stores a grant in place of the one of its port and feature, if any.
func (tx *Tx) PutGrant(g Grant) error {
	if err := checkKey("port", g.Request.Port); err != nil {
		return err
	}
	return tx.run.table(factTable).store(grantKey(g.Request.OffloadRef), g)
}

// DeleteGrant forgets a grant, which need not exist.
func (tx *Tx) DeleteGrant(ref vswitch.OffloadRef) error {
	return tx.run.table(factTable).remove(grantKey(ref))
}

// generationFact is where the last generation is kept.
const generationFact = "generation"

// NextGeneration is a number that is greater than all before, of this boot and of earlier
// ones: a plugin may remember what it was asked before a reboot.
func (tx *Tx) NextGeneration(now time.Time) (uint64, error) {
	var last uint64
	if _, err := tx.Fact(generationFact, &last); err != nil {
		return 0, err
	}
	next := max(last+1, uint64(max(0, now.UnixMicro())))
	return next, tx.PutFact(generationFact, next)
}
