package pool_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/pool"
	"github.com/patchbay-net/patchbay/sdk"
)

// These need no NIC: a machine without any has the plugin too.

func unplugged(t *testing.T) *pool.Provider {
	t.Helper()
	p := pool.New(nic.At(t.TempDir(), t.TempDir()), "test")
	t.Cleanup(func() { _ = p.Close() }) // some tests do it themselves
	return p
}

func settingsWith(record string) sdk.Config { return sdk.Config{"vfs": 2, "record": record} }

// Two plugins with one record would give one VF to two ports.
func TestOneRecordOnePlugin(t *testing.T) {
	path := newRecord(t)
	first, second := unplugged(t), unplugged(t)
	if err := first.Configure(t.Context(), settingsWith(path)); err != nil {
		t.Fatal(err)
	}
	if err := second.Configure(t.Context(), settingsWith(path)); !errors.Is(err, vswitch.InUse) || vswitch.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if err := first.Configure(t.Context(), settingsWith(newRecord(t))); !errors.Is(err, vswitch.Immutable) {
		t.Errorf("%v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Configure(t.Context(), settingsWith(path)); err != nil {
		t.Errorf("the first is gone: %v", err)
	}
	if _, err := first.Grants(t.Context()); !errors.Is(err, vswitch.PluginFailed) {
		t.Errorf("after its end: %v", err)
	}
}

func TestRecordsThatCannotBe(t *testing.T) {
	bad := newRecord(t)
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]vswitch.Kind{
		"sriov.json":                             vswitch.Invalid,
		bad:                                      vswitch.StoreCorrupt,
		filepath.Join(bad, "below", "a", "file"): vswitch.StoreUnavailable,
	} {
		p := unplugged(t)
		if err := p.Configure(t.Context(), settingsWith(path)); !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %s", path, err, kind)
		}
		if _, err := p.Ensure(t.Context(), sdk.Request{Ref: sdk.Ref{Port: "a", Feature: vswitch.SRIOV}}); !errors.Is(err, vswitch.PluginFailed) {
			t.Errorf("without a record: %v", err)
		}
	}
}

func TestUnpluggedMachine(t *testing.T) {
	p := unplugged(t)
	if err := p.Configure(t.Context(), settingsWith(newRecord(t))); err != nil {
		t.Fatal(err)
	}
	if err := p.WatchInventory(t.Context(), func(i sdk.Inventory) error {
		if len(i.NICs) != 0 {
			t.Errorf("%+v", i)
		}
		return errEnough
	}); !errors.Is(err, errEnough) {
		t.Error(err)
	}
	ref := sdk.Ref{Port: "a", Feature: vswitch.SRIOV}
	if _, err := p.Ensure(t.Context(), sdk.Request{Ref: ref, NIC: "0000:01:00.0"}); !errors.Is(err, vswitch.NotFound) {
		t.Error(err)
	}
	ref.Feature = vswitch.VMQ
	if _, err := p.Ensure(t.Context(), sdk.Request{Ref: ref, NIC: "0000:01:00.0"}); sdk.ReasonOf(err) != vswitch.NoDriverSupport {
		t.Error(err)
	}
}
