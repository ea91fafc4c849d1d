package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A preview of a store that is not there sees what it writes, and makes nothing.
func TestPreviewOfNothing(t *testing.T) {
	f := newFixture(t)
	err := f.Preview(func(tx *Tx) error {
		if err := tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod"}, Number: 1}); err != nil {
			return err
		}
		if err := attach(tx, "pb1", "prod"); err != nil {
			return err
		}
		_, err := tx.Port("pb1")
		return errors.Join(err, tx.DeletePort("pb1"))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{f.dirs.State, f.dirs.Run} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was made: %v", filepath.Base(dir), err)
		}
	}
}

// Whatever is written, a preview reads what a transaction that is not kept reads, and
// leaves both files as they are.
func TestPreviewIsLikeATransaction(t *testing.T) {
	f := filled(t)
	errDropped := errors.New("dropped")
	for seed := range uint64(20) {
		script := func(report *[]string) func(*Tx) error {
			return func(tx *Tx) error {
				*report = scribble(tx, rand.New(rand.NewPCG(seed, 1)))
				return nil
			}
		}
		var want, got []string
		err := f.UpdateConfig(func(tx *Tx) error { return errors.Join(script(&want)(tx), errDropped) })
		if !errors.Is(err, errDropped) {
			t.Fatal(err)
		}
		before := [][]byte{readFile(t, f.runFile()), readFile(t, f.configFile())}
		if err := f.Preview(script(&got)); err != nil {
			t.Fatal(err)
		}
		for i, path := range []string{f.runFile(), f.configFile()} {
			if !bytes.Equal(before[i], readFile(t, path)) {
				t.Errorf("%s was changed", path)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: a preview reads something else:\n%s", seed, diff)
		}
	}
}

// scribble reads and writes at random and reports what it is told.
func scribble(tx *Tx, random *rand.Rand) (report []string) {
	tell := func(what string, v any, err error) { report = append(report, fmt.Sprint(what, " ", v, " ", err)) }
	for range 40 {
		id := fmt.Sprintf("pb%d", random.IntN(400))
		name := fmt.Sprintf("s%d", random.IntN(4))
		switch random.IntN(7) {
		case 0, 1:
			tell("attach "+id, nil, attach(tx, id, "prod"))
		case 2, 3:
			tell("delete "+id, nil, tx.DeletePort(id))
		case 4:
			tell("put "+name, nil, tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: name}, Number: 2}))
		case 5:
			tell("drop "+name, nil, tx.DeleteSwitch(name))
		case 6:
			tell("hold", nil, tx.HoldIP("prod", netip.AddrFrom4([4]byte{10, 0, 9, byte(random.IntN(4))}), id))
		}
	}
	ports, err := tx.PortsOf("prod")
	tell("ports", ports, err)
	all, err := tx.Ports()
	tell("all ports", all, err)
	switches, err := tx.Switches()
	tell("switches", switches, err)
	macs, err := tx.MACs()
	tell("macs", macs, err)
	n, err := tx.FreeSwitchNumber()
	tell("number", n, err)
	return report
}
