package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestViewOfNothing(t *testing.T) {
	f := newFixture(t)
	f.view(t, func(tx *Tx) error {
		ports, err := tx.Ports()
		wantEqual(t, ports, []vswitch.Port(nil))
		if err != nil {
			return err
		}
		r, isDefault, err := tx.MACRange()
		if err != nil || !isDefault || r != vswitch.DefaultMACRange("machine-1") {
			t.Errorf("range %v, default %v", r, isDefault)
		}
		_, err = tx.Switch("prod")
		wantKind(t, err, vswitch.NotFound)
		if err := tx.PutPort(vswitch.Port{ID: "pb1", Switch: "prod"}); err == nil {
			t.Error("a view let a port be stored")
		}
		return nil
	})
	for _, dir := range []string{f.dirs.State, f.dirs.Run} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("View created %s", dir)
		}
	}
}

func TestFailedTransactionWritesNothing(t *testing.T) {
	f := newFixture(t)
	failed := errors.New("failed")
	for name, transact := range map[string]func(func(*Tx) error) error{"Update": f.Update, "UpdateConfig": f.UpdateConfig} {
		err := transact(func(tx *Tx) error {
			if err := attach(tx, "pb1", "prod"); err != nil {
				return err
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Fatalf("%s: %v", name, err)
		}
		for _, path := range []string{f.runFile(), f.configFile(), f.runFile() + ".new", f.configFile() + ".new"} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s left %s", name, path)
			}
		}
	}
	f.update(t, func(tx *Tx) error { return attach(tx, "pb1", "prod") })
	_ = f.Update(func(tx *Tx) error { return errors.Join(attach(tx, "pb2", "prod"), failed) })
	wantEqual(t, len(checkConsistent(t, f.Store)), 1)
}

func TestPanicOfCallerReleasesTheStore(t *testing.T) {
	f := newFixture(t)
	func() {
		defer func() {
			if r := recover(); r != "caller" {
				t.Errorf("recovered %v", r)
			}
		}()
		_ = f.Update(func(*Tx) error { panic("caller") })
	}()
	f.update(t, func(tx *Tx) error { return attach(tx, "pb1", "prod") })
}

func TestUpdateCannotWriteConfiguration(t *testing.T) {
	f := newFixture(t)
	if err := f.Update(func(tx *Tx) error { return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "a"}}) }); err == nil {
		t.Fatal("Update let a switch be stored")
	}
}

func TestModes(t *testing.T) {
	f := newFixture(t)
	f.updateConfig(t, func(tx *Tx) error { return tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "a"}}) })
	for path, want := range map[string]fs.FileMode{
		f.dirs.State: 0o700, f.dirs.Run: 0o700, f.configFile(): 0o600, f.runFile(): 0o600, f.lockPath: 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
}

func TestNewBoot(t *testing.T) {
	f := newFixture(t)
	host := macOf(t, "0a:50:42:00:00:07")
	f.updateConfig(t, func(tx *Tx) error {
		return errors.Join(
			tx.SetMACRange(vswitch.MACRange{First: macOf(t, "0a:50:42:00:00:07"), Last: macOf(t, "0a:50:42:00:00:08")}),
			tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod"}, HostMAC: host}),
		)
	})
	f.update(t, func(tx *Tx) error { return errors.Join(attach(tx, "pb1", "prod"), tx.PutFact("locked", true)) })
	old := f.runFile()

	f.Store = f.reopened("boot-2")
	f.view(t, func(tx *Tx) error {
		ports, err := tx.Ports()
		wantEqual(t, len(ports), 0)
		return err
	})
	if _, err := os.Stat(old); err != nil {
		t.Errorf("a view removed the file of another boot: %v", err)
	}
	f.update(t, func(tx *Tx) error {
		var fact bool
		if found, err := tx.Fact("locked", &fact); err != nil || found {
			t.Errorf("fact survived the reboot (%v)", err)
		}
		m, err := tx.LeaseMAC("pb2")
		if m == host {
			t.Error("the host port's address was leased again")
		}
		return err
	})
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of the other boot is still there: %v", err)
	}
	f.view(t, func(tx *Tx) error {
		macs, err := tx.MACs()
		wantEqual(t, macs, []MACLease{{host, Lease{Port: "pbp-prod"}}, {macOf(t, "0a:50:42:00:00:08"), Lease{Port: "pb2"}}})
		return err
	})
}

// A crash between the two commits of UpdateConfig leaves the configuration ahead.
func TestHostMACsFollowConfiguration(t *testing.T) {
	f := newFixture(t)
	before, host := f.runFile()+".before", macOf(t, "0a:50:42:00:00:01")
	f.updateConfig(t, func(tx *Tx) error {
		return errors.Join(
			tx.SetMACRange(vswitch.MACRange{First: host, Last: macOf(t, "0a:50:42:00:00:02")}),
			tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod"}}),
		)
	})
	copyFile(t, f.runFile(), before)
	f.updateConfig(t, func(tx *Tx) error {
		m, err := tx.LeaseMAC(vswitch.HostPortSwitchEnd("prod"))
		wantEqual(t, m, host)
		return errors.Join(err, tx.PutSwitch(SwitchRecord{Switch: vswitch.Switch{Name: "prod"}, HostMAC: m}))
	})
	withLease := f.runFile() + ".lease"
	copyFile(t, f.runFile(), withLease)

	copyFile(t, before, f.runFile())
	f.update(t, func(tx *Tx) error {
		m, err := tx.LeaseMAC("pb1")
		wantEqual(t, m, macOf(t, "0a:50:42:00:00:02"))
		return err
	})

	// And the other way: the switch is gone, its lease is still there.
	f.updateConfig(t, func(tx *Tx) error { return errors.Join(tx.DeleteSwitch("prod"), tx.DeletePort("pbp-prod")) })
	copyFile(t, withLease, f.runFile())
	f.update(t, func(tx *Tx) error {
		_, err := tx.LeaseMAC("pb2")
		macs, err2 := tx.MACs()
		wantEqual(t, macs, []MACLease{{macOf(t, "0a:50:42:00:00:02"), Lease{Port: "pb2"}}})
		return errors.Join(err, err2)
	})
}

func TestFacts(t *testing.T) {
	f := newFixture(t)
	type capabilities struct{ Locked, NAT bool }
	want := capabilities{Locked: true}
	f.update(t, func(tx *Tx) error { return tx.PutFact("kernel", want) })
	f.view(t, func(tx *Tx) error {
		var got capabilities
		found, err := tx.Fact("kernel", &got)
		wantEqual(t, found, true)
		wantEqual(t, got, want)
		return err
	})
}

func TestDefaults(t *testing.T) {
	wantEqual(t, DefaultDirs(), Dirs{State: "/var/lib/patchbay", Run: "/run/patchbay"})
	s := New(Config{})
	wantEqual(t, s.dirs, DefaultDirs())
	wantEqual(t, s.quarantine, DefaultQuarantine)
	want, err := os.ReadFile(bootIDPath)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.bootID()
	wantEqual(t, got+"\n", string(want))
	if err != nil || s.machineID() == "" {
		t.Errorf("machine id %q, error %v", s.machineID(), err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
