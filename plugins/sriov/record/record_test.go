package record_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

const pf, addr = "0000:01:00.0", "0000:01:10.2"

func held() record.VF {
	ref := sdk.Ref{Port: "a", Feature: vswitch.SRIOV}
	return record.VF{
		PF: pf, Index: 1, Phase: record.Held,
		Found:   record.Found{Settings: nic.Settings{SpoofChk: true}, Driver: "igbvf", Netdev: "eth3", MTU: 1500},
		Request: sdk.Request{Ref: ref, NIC: pf, Generation: 3, MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, Owner: vswitch.OwnerContainer, VLAN: 7},
		Grant:   sdk.Grant{Ref: ref, NIC: pf, Generation: 3, Amount: 1, VF: &sdk.VF{Index: 1, PCIAddr: addr}},
	}
}

// A port may have a VF while one that a VM seized from it is brought back.
func TestVFOfAPort(t *testing.T) {
	vfs := func(phases ...record.Phase) record.State {
		s := record.State{VFs: make(map[string]record.VF)}
		for i, p := range phases {
			vf := held()
			vf.Phase, vf.Index = p, i
			s.VFs[fmt.Sprintf("0000:01:10.%d", i)] = vf
		}
		return s
	}
	for _, c := range []struct {
		state record.State
		want  int // -1 for none
	}{
		{vfs(), -1},
		{vfs(record.Seized), -1},
		{vfs(record.Leaving), 0},
		{vfs(record.Leaving, record.Held, record.Seized), 1},
		{vfs(record.Held, record.Leaving), 0},
		{vfs(record.Leaving, record.Taking), 1},
	} {
		for range 20 { // in whatever order
			addr, vf, has := c.state.Of("a")
			if has != (c.want >= 0) || has && (vf.Index != c.want || addr != fmt.Sprintf("0000:01:10.%d", c.want)) {
				t.Fatalf("of %+v it is %s, %+v", c.state.VFs, addr, vf)
			}
			if _, _, has := c.state.Of("b"); has {
				t.Fatal("another port has it")
			}
		}
	}
}

// What was written is read by the next process of the same boot, and by none of another.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "of/plugins", "sriov.json")
	open := func(boot string) record.State {
		t.Helper()
		f, err := record.Open(path, boot)
		if err != nil {
			t.Fatal(err)
		}
		return f.State()
	}
	f, err := record.Open(path, "first")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{f.Made(pf, 4, 77), f.Put(addr, held())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := record.State{Version: 1, Boot: "first", Made: map[string]int{pf: 4}, First: map[string]uint64{pf: 77}, VFs: map[string]record.VF{addr: held()}}
	if diff := cmp.Diff(want, open("first")); diff != "" {
		t.Error(diff)
	}
	if s := open("second"); len(s.VFs) != 0 || len(s.Made) != 0 {
		t.Errorf("after a boot there is %+v", s)
	}
	s := f.State()
	delete(s.VFs, addr) // is the caller's
	for _, err := range []error{f.Drop("0000:01:10.4"), f.Drop(addr), f.Made(pf, 0, 0)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if s := open("first"); len(s.VFs) != 0 || len(s.Made)+len(s.First) != 0 {
		t.Errorf("after all is dropped there is %+v", s)
	}
}

// A record that cannot be written has changed nothing, and says so.
func TestFileThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sriov.json")
	f, err := record.Open(path, "boot")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".half", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Put(addr, held()); !errors.Is(err, vswitch.StoreUnavailable) || len(f.State().VFs) != 0 {
		t.Errorf("%v, %+v", err, f.State())
	}
}

func TestWhatIsNoRecord(t *testing.T) {
	whole := func(change func(*record.State, *record.VF)) string {
		s, vf := record.State{Version: 1, Boot: "b", Made: map[string]int{pf: 2}}, held()
		change(&s, &vf)
		if s.VFs == nil {
			s.VFs = map[string]record.VF{addr: vf}
		}
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	good := whole(func(*record.State, *record.VF) {})
	if _, err := record.Parse([]byte(good)); err != nil {
		t.Fatalf("%s: %v", good, err)
	}
	for name, text := range map[string]string{
		"empty":          "",
		"cut short":      good[:len(good)/2],
		"twice":          good + good,
		"another key":    `{"version": 1, "boot": "b", "vf": {}}`,
		"another form":   whole(func(s *record.State, _ *record.VF) { s.Version = 2 }),
		"no address":     whole(func(s *record.State, vf *record.VF) { s.VFs = map[string]record.VF{"../../../../etc/passwd": *vf} }),
		"NIC elsewhere":  whole(func(_ *record.State, vf *record.VF) { vf.PF = "../.." }),
		"driver above":   whole(func(_ *record.State, vf *record.VF) { vf.Found.Driver = "../../../x" }),
		"driver ..":      whole(func(_ *record.State, vf *record.VF) { vf.Found.Driver = ".." }),
		"two lines":      whole(func(_ *record.State, vf *record.VF) { vf.Found.Override = "a\nb" }),
		"netdev's name":  whole(func(_ *record.State, vf *record.VF) { vf.Found.Netdev = "a/b" }),
		"index":          whole(func(_ *record.State, vf *record.VF) { vf.Index = -1 }),
		"phase":          whole(func(_ *record.State, vf *record.VF) { vf.Phase = "lost" }),
		"VLAN":           whole(func(_ *record.State, vf *record.VF) { vf.Found.Settings.VLAN = 5000 }),
		"MTU":            whole(func(_ *record.State, vf *record.VF) { vf.Found.MTU = -1 }),
		"another's":      whole(func(_ *record.State, vf *record.VF) { vf.Grant.Port = "b" }),
		"multicast":      whole(func(_ *record.State, vf *record.VF) { vf.Request.MAC[0] = 1 }),
		"first of none":  whole(func(s *record.State, _ *record.VF) { s.First = map[string]uint64{"0000:02:00.0": 7} }),
		"none were made": whole(func(s *record.State, _ *record.VF) { s.Made[pf] = 0 }),
		"one port's two": whole(func(s *record.State, vf *record.VF) { s.VFs = map[string]record.VF{addr: *vf, "0000:01:10.4": *vf} }),
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := record.Parse([]byte(text)); err == nil {
				t.Errorf("%+v", s)
			}
			path := filepath.Join(t.TempDir(), "sriov.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := record.Open(path, "b"); !errors.Is(err, vswitch.StoreCorrupt) || vswitch.HintOf(err) == "" {
				t.Errorf("%v", err)
			}
		})
	}
}

// FuzzParse: whatever is in the file is an error or a state that is written as it was read.
func FuzzParse(f *testing.F) {
	data, err := json.Marshal(record.State{Version: 1, Boot: "b", Made: map[string]int{pf: 2}, VFs: map[string]record.VF{addr: held()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"boot":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := record.Parse(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := record.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Error(diff)
		}
	})
}
