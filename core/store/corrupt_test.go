package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// filled is a store whose trees are deep enough to have branch pages, and with
// free pages.
func filled(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	widePool(t, f)
	f.updateConfig(t, func(tx *Tx) error { return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod"}, Number: 1}) })
	for i := range 10 {
		f.update(t, func(tx *Tx) error {
			for j := range 30 {
				if err := attach(tx, fmt.Sprintf("pb%d", i*30+j), "prod"); err != nil {
					return err
				}
			}
			return tx.DeletePort(fmt.Sprintf("pb%d", i*30+3))
		})
	}
	return f
}

// exercise calls everything that reads or writes the store and returns the errors
// that are not simply answers.
func exercise(s *Store) []error {
	var all []error
	note := func(err error) {
		if err != nil && vswitch.KindOf(err) != vswitch.NotFound {
			all = append(all, err)
		}
	}
	read := []func(*Tx) error{
		func(tx *Tx) error { _, err := tx.Ports(); return err },
		func(tx *Tx) error { _, err := tx.PortsOf("prod"); return err },
		func(tx *Tx) error { _, err := tx.Port("pb77"); return err },
		func(tx *Tx) error { _, err := tx.PortCount("prod"); return err },
		func(tx *Tx) error { _, err := tx.MACs(); return err },
		func(tx *Tx) error { _, err := tx.MACCounts(); return err },
		func(tx *Tx) error { _, err := tx.IPs("prod"); return err },
		func(tx *Tx) error { _, err := tx.Switches(); return err },
	}
	for _, fn := range read {
		note(s.View(fn))
	}
	write := []func(*Tx) error{
		func(tx *Tx) error { return attach(tx, "new", "prod") },
		func(tx *Tx) error { return tx.DeletePort("pb50") },
		func(tx *Tx) error { return tx.DeletePort("pb200") },
		func(tx *Tx) error { return attach(tx, "newer", "prod") },
		func(tx *Tx) error { return tx.HoldIP("prod", netip.MustParseAddr("10.0.0.200"), "new") },
	}
	for _, fn := range write {
		note(s.Update(fn))
	}
	note(s.UpdateConfig(func(tx *Tx) error { return tx.DeleteSwitch("prod") }))
	return all
}

func TestExerciseOfSoundStore(t *testing.T) {
	f := filled(t)
	for _, err := range exercise(f.Store) {
		if !errors.Is(err, vswitch.IPInUse) {
			t.Error(err)
		}
	}
}

func TestTruncated(t *testing.T) {
	f := filled(t)
	for _, path := range []string{f.runFile(), f.configFile()} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		step := max(512, len(whole)/256/512*512)
		for size := 0; size < len(whole); size += step {
			if size > 64<<10 && testing.Short() {
				break
			}
			if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
				t.Fatal(err)
			}
			err := f.UpdateConfig(func(tx *Tx) error { return attach(tx, "new", "prod") })
			if size > len(whole)-64<<10 && err == nil {
				// The end of the configuration may be room that no page uses.
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				continue
			}
			wantKind(t, err, vswitch.StoreCorrupt)
			if !strings.Contains(err.Error(), path) || !strings.Contains(vswitch.HintOf(err), "mv "+path) {
				t.Fatalf("no path or hint: %v", err)
			}
			if got := fileSize(t, path); got != int64(size) {
				t.Fatalf("a corrupt file of %d bytes was changed to %d", size, got)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A file that shrinks while it is mapped raises SIGBUS on the next access.
func TestTruncatedWhileOpen(t *testing.T) {
	f := filled(t)
	err := f.Update(func(tx *Tx) error {
		if err := os.Truncate(f.runFile(), 8192); err != nil {
			return err
		}
		_, err := tx.Ports()
		return err
	})
	wantKind(t, err, vswitch.StoreCorrupt)
	if _, err := f.LockPort("pb1"); err != nil { // and nothing is left locked
		t.Fatal(err)
	}
	wantKind(t, f.Update(func(*Tx) error { return nil }), vswitch.StoreCorrupt)
}

func TestGarbage(t *testing.T) {
	for name, content := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "zeros": make([]byte, 1<<16), "noise": bytes.Repeat([]byte("noise "), 1<<14),
	} {
		t.Run(name, func(t *testing.T) {
			f := filled(t)
			if err := os.WriteFile(f.runFile(), content, 0o600); err != nil {
				t.Fatal(err)
			}
			err := f.Update(func(tx *Tx) error { return attach(tx, "new", "prod") })
			wantKind(t, err, vswitch.StoreCorrupt)
			got, err := os.ReadFile(f.runFile())
			if err != nil || !bytes.Equal(got, content) {
				t.Fatal("a corrupt file was changed", err)
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		f := newFixture(t)
		if err := os.MkdirAll(f.runFile(), 0o700); err != nil {
			t.Fatal(err)
		}
		wantKind(t, f.Update(func(*Tx) error { return nil }), vswitch.StoreUnavailable)
	})
}

func TestFlippedBitInValueIsNoticed(t *testing.T) {
	f := filled(t)
	data, err := os.ReadFile(f.runFile())
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; ; at++ { // every version of the page, also those that are free
		i := bytes.Index(data[at:], []byte("container-pb77\x00"))
		if i < 0 {
			break
		}
		at += i
		data[at+11] ^= 1
	}
	if err := os.WriteFile(f.runFile(), data, 0o600); err != nil {
		t.Fatal(err)
	}
	err = f.View(func(tx *Tx) error { _, err := tx.Port("pb77"); return err })
	wantKind(t, err, vswitch.StoreCorrupt)
	f.view(t, func(tx *Tx) error { _, err := tx.Port("pb78"); return err }) // the others can be read
}

// Whatever bytes flip, the process lives, the store is not left locked, and what
// is wrong is called corrupt.
func TestRandomFlips(t *testing.T) {
	f := filled(t)
	run, config := readFile(t, f.runFile()), readFile(t, f.configFile())
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	random := rand.New(rand.NewPCG(1, 2))
	corrupt := 0
	for range rounds {
		flipped := [2][]byte{bytes.Clone(run), bytes.Clone(config)}
		var where []string
		for range 1 + random.IntN(3) {
			file := flipped[min(random.IntN(6), 1)^1]
			at := flipAt(random, len(file))
			file[at] ^= byte(1 + random.IntN(255))
			where = append(where, fmt.Sprintf("%d of %d", at, len(file)))
		}
		writeFile(t, f.runFile(), flipped[0])
		writeFile(t, f.configFile(), flipped[1])
		for _, err := range exercise(f.Store) {
			switch vswitch.KindOf(err) {
			case vswitch.StoreCorrupt, vswitch.StoreNewer:
				corrupt++
			case vswitch.IPInUse: // by exercise itself
			default:
				t.Fatalf("bytes %v: %v", where, err)
			}
		}
	}
	if corrupt == 0 {
		t.Error("no flipped byte was noticed")
	}
}

// A sound file has no page that nobody claims: so it costs nothing to look for them.
func TestEveryPageIsClaimed(t *testing.T) {
	f := filled(t)
	f.update(t, func(tx *Tx) error {
		if p := tx.run.pages; p.used+2 != p.pages {
			t.Errorf("%d of %d pages are claimed", p.used, p.pages)
		}
		return nil
	})
}

// A page that an entry goes on to, on the list of free pages too, would be written over.
func TestFreePageInUse(t *testing.T) {
	f := filled(t)
	f.update(t, func(tx *Tx) error { return tx.PutFact("long", strings.Repeat("x", 3*os.Getpagesize())) })
	f.update(t, func(tx *Tx) error { return tx.DeletePort("pb50") })
	data := readFile(t, f.runFile())
	var next uint64
	for at := 2 * os.Getpagesize(); at < len(data); at += os.Getpagesize() {
		if page := parsePage(data[at:]); page.flags == leafPage && page.overflow > 0 && page.overflow < 9 {
			next = page.id + 1
		}
	}
	meta, err := parseMeta(data)
	if other, otherErr := parseMeta(data[os.Getpagesize():]); err != nil || otherErr == nil && other.txid > meta.txid {
		meta, err = other, otherErr
	}
	if err != nil || next == 0 {
		t.Fatal(next, err)
	}
	list := data[int(meta.freelist)*os.Getpagesize():]
	if parsePage(list).count == 0 {
		t.Fatal("no free page")
	}
	binary.NativeEndian.PutUint64(list[pageHeader:], next)
	writeFile(t, f.runFile(), data)
	wantKind(t, f.Update(func(tx *Tx) error { return attach(tx, "new", "prod") }), vswitch.StoreCorrupt)
}

// One bit flips, anywhere in a small store: what is read is what was written, or the file
// is called corrupt. Nothing is missed.
func TestEveryFlip(t *testing.T) {
	f := newFixture(t)
	f.updateConfig(t, func(tx *Tx) error { return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod"}, Number: 1}) })
	f.update(t, func(tx *Tx) error { return attach(tx, "pb1", "prod") })
	read := func() (port vswitch.Port, sw SwitchRecord, err error) {
		err = f.View(func(tx *Tx) (err error) {
			if port, err = tx.Port("pb1"); err == nil {
				sw, err = tx.Switch("prod")
			}
			return err
		})
		return port, sw, err
	}
	port, sw, err := read()
	if err != nil {
		t.Fatal(err)
	}
	stride := 11 // each time another bit
	if testing.Short() {
		stride = 61
	}
	noticed := 0
	for _, path := range []string{f.runFile(), f.configFile()} {
		whole := readFile(t, path)
		for at := 0; at < len(whole); at += stride {
			flipped := bytes.Clone(whole)
			flipped[at] ^= 1 << (at / stride % 8)
			writeFile(t, path, flipped)
			p, s, err := read()
			switch kind := vswitch.KindOf(err); {
			case err == nil:
				wantEqual(t, p, port)
				wantEqual(t, s, sw)
			case kind == vswitch.StoreCorrupt || kind == vswitch.StoreNewer:
				noticed++
			default:
				t.Errorf("byte %d of %s: %v", at, path, err)
			}
		}
		writeFile(t, path, whole)
	}
	if _, _, err := read(); err != nil || noticed == 0 {
		t.Errorf("%d flips noticed; afterwards %v", noticed, err)
	}
}

// One bit flips in a store whose trees are deep: every port, listed or asked for by name,
// with the addresses that it holds, is what it was, or the file is called corrupt.
func TestEveryFlipInADeepStore(t *testing.T) {
	f := filled(t)
	whole := readFile(t, f.runFile())
	var want []vswitch.Port
	f.view(t, func(tx *Tx) (err error) { want, err = tx.Ports(); return err })
	random := rand.New(rand.NewPCG(3, 4))
	rounds := 250
	if testing.Short() {
		rounds = 30
	}
	noticed := 0
	for range rounds {
		at, bit := flipAt(random, len(whole)), random.IntN(8)
		flipped := bytes.Clone(whole)
		flipped[at] ^= 1 << bit
		writeFile(t, f.runFile(), flipped)
		err := f.View(func(tx *Tx) error {
			for _, p := range want {
				got, err := tx.Port(p.ID)
				if err != nil {
					return err
				}
				wantEqual(t, got, p)
			}
			listed, err := tx.Ports()
			if err == nil && len(listed) != len(want) {
				t.Errorf("bit %d of byte %d: %d of %d ports are listed", bit, at, len(listed), len(want))
			}
			return err
		})
		switch vswitch.KindOf(err) {
		case vswitch.StoreCorrupt, vswitch.StoreNewer:
			noticed++
		default:
			if err != nil {
				t.Fatalf("bit %d of byte %d: %v", bit, at, err)
			}
		}
	}
	if noticed == 0 {
		t.Error("no flip was noticed")
	}
}

// A flipped bit in the key of a branch sends whoever asks for the first entry of the leaf
// below to the leaf before. It is not called absent for that, nor written a second time.
func TestFlippedBranchKey(t *testing.T) {
	f := filled(t)
	whole := readFile(t, f.runFile())
	hidden := 0
	all, _ := pagesOfPorts(t, f, whole)
	for _, branch := range all {
		for i := 1; i < branch.count; i++ {
			e, _ := branch.element(i)
			key, last := string(e.key), int(branch.id)*os.Getpagesize()+e.begin+len(e.key)-1
			flipped := bytes.Clone(whole)
			flipped[last] |= flipped[last] + 1 // its lowest bit that is not set: a later key
			writeFile(t, f.runFile(), flipped)
			wantKind(t, f.View(func(tx *Tx) error {
				_, found, err := tx.run.table(portTable).get(key)
				if err == nil && !found {
					t.Errorf("%q is called absent", key)
				}
				return err
			}), vswitch.StoreCorrupt)
			wantKind(t, f.Update(func(tx *Tx) error { return tx.run.table(portTable).put(key, nil) }), vswitch.StoreCorrupt)
			wantKind(t, f.Update(func(tx *Tx) error { return tx.run.table(portTable).remove(key) }), vswitch.StoreCorrupt)
			if !bytes.Equal(readFile(t, f.runFile()), flipped) {
				t.Fatal("a corrupt file was changed")
			}
			hidden++
		}
	}
	if hidden == 0 {
		t.Error("no branch has a second leaf")
	}
}

// A leaf whose count falls to nothing has lost its entries: one inside the leaf of the
// buckets, and one that goes on over more pages. It is no sounder for being asked twice.
func TestLeafWithoutItsEntry(t *testing.T) {
	for name, length := range map[string]int{"inside another": 1, "of its own": 3 * os.Getpagesize()} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.update(t, func(tx *Tx) error { return tx.PutFact("only", strings.Repeat("x", length)) })
			data := readFile(t, f.runFile())
			at := bytes.LastIndex(data, []byte("only")) - elementSize - pageHeader
			if page := parsePage(data[at:]); page.flags != leafPage || page.count != 1 {
				t.Fatalf("no leaf of one entry: %+v", page)
			}
			binary.NativeEndian.PutUint16(data[at+10:], 0)
			writeFile(t, f.runFile(), data)
			wantKind(t, f.View(func(tx *Tx) error {
				var fact string
				if _, err := tx.Fact("only", &fact); err == nil {
					t.Error("a damaged leaf passed")
				}
				_, err := tx.Fact("only", &fact)
				return err
			}), vswitch.StoreCorrupt)
		})
	}
}

// A leaf that counts fewer entries than it has does not shorten a list.
func TestLeafThatCountsTooFew(t *testing.T) {
	f := filled(t)
	whole := readFile(t, f.runFile())
	_, leaves := pagesOfPorts(t, f, whole)
	for _, leaf := range leaves {
		flipped := bytes.Clone(whole)
		binary.NativeEndian.PutUint16(flipped[int(leaf.id)*os.Getpagesize()+10:], uint16(leaf.count&(leaf.count-1)))
		writeFile(t, f.runFile(), flipped)
		wantKind(t, f.View(func(tx *Tx) error {
			ports, err := tx.Ports()
			if err == nil {
				t.Errorf("page %d of %d entries: %d ports are listed", leaf.id, leaf.count, len(ports))
			}
			return err
		}), vswitch.StoreCorrupt)
	}
	if len(leaves) < 2 {
		t.Error("the table is one leaf")
	}
}

// pagesOfPorts returns the branch and the leaf pages of the table of ports.
func pagesOfPorts(t *testing.T, f *fixture, data []byte) (branches, leaves []pageView) {
	t.Helper()
	var root uint64
	f.view(t, func(tx *Tx) error { root = tx.run.pages.roots[portTable]; return nil })
	for ids := []uint64{root}; len(ids) > 0; ids = ids[1:] {
		page := parsePage(data[int(ids[0])*os.Getpagesize():][:os.Getpagesize()])
		if page.flags == leafPage {
			leaves = append(leaves, page)
			continue
		}
		branches = append(branches, page)
		for i := range page.count {
			e, _ := page.element(i)
			ids = append(ids, e.page)
		}
	}
	return branches, leaves
}

// The newest header of the configuration is damaged: the older one would do, but the run
// file knows that more was written.
func TestTornHeaderOfAKnownChange(t *testing.T) {
	f := newFixture(t)
	f.updateConfig(t, func(tx *Tx) error { return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "old"}, Number: 1}) })
	backup := readFile(t, f.configFile())
	f.updateConfig(t, func(tx *Tx) error { return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "new"}, Number: 2}) })
	torn := readFile(t, f.configFile())
	a, errA := parseMeta(torn)
	b, errB := parseMeta(torn[os.Getpagesize():])
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	newest := 0
	if b.txid > a.txid {
		newest = os.Getpagesize()
	}
	torn[newest+pageHeader+20] ^= 4
	writeFile(t, f.configFile(), torn)
	switches := func() error { return f.View(func(tx *Tx) error { _, err := tx.Switches(); return err }) }
	wantKind(t, switches(), vswitch.StoreCorrupt)
	wantKind(t, f.UpdateConfig(func(*Tx) error { return nil }), vswitch.StoreCorrupt)
	if err := os.Remove(f.runFile()); err != nil { // after a power failure nobody knows better
		t.Fatal(err)
	}
	if err := switches(); err != nil {
		t.Error(err)
	}
	f.update(t, func(*Tx) error { return nil })
	writeFile(t, f.configFile(), backup) // older, but whole: the user has put it there
	if err := switches(); err != nil {
		t.Error(err)
	}
}

// flipAt prefers the headers of pages, where damage does most.
func flipAt(random *rand.Rand, size int) int {
	if random.IntN(2) == 0 {
		return random.IntN(size)
	}
	return random.IntN(size/4096)*4096 + random.IntN(64)
}

func TestNewerSchema(t *testing.T) {
	for name, path := range map[string]func(*fixture) string{"run": (*fixture).runFile, "configuration": (*fixture).configFile} {
		t.Run(name, func(t *testing.T) {
			f := filled(t)
			err := f.UpdateConfig(func(tx *Tx) error {
				file := tx.run
				if name != "run" {
					file = tx.config
				}
				file.meta.Schema, file.meta.By = 7, "v9.8.7"
				return file.writeMeta()
			})
			if err != nil {
				t.Fatal(err)
			}
			err = f.View(func(tx *Tx) error { _, err := tx.Switches(); return err })
			wantKind(t, err, vswitch.StoreNewer)
			for _, says := range []string{path(f), "Patchbay v9.8.7 in format 7", "up to 1"} {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v does not say %q", err, says)
				}
			}
		})
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A leaf that claims to go on over a million pages would have bbolt free them all,
// one by one, until memory is used up.
func TestLeafThatNeverEnds(t *testing.T) {
	f := filled(t)
	data := readFile(t, f.runFile())
	for at := 0; at < len(data); at += os.Getpagesize() {
		if page := parsePage(data[at:]); page.flags == leafPage {
			binary.NativeEndian.PutUint32(data[at+12:], 1<<30)
		}
	}
	writeFile(t, f.runFile(), data)
	wantKind(t, f.Update(func(tx *Tx) error { return attach(tx, "new", "prod") }), vswitch.StoreCorrupt)
	wantKind(t, f.Update(func(tx *Tx) error { return tx.DeletePort("pb50") }), vswitch.StoreCorrupt)
}
