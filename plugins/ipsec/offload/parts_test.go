package offload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// VFs are found by their NIC and their ports' addresses where the NIC itself is not, the ports
// of one card have ids of their own, and what has no hardware behind it is left out.
func TestHardware(t *testing.T) {
	buses := t.TempDir()
	for _, vf := range []string{"0000:01:10.0", "0000:01:10.2"} {
		at := filepath.Join(buses, "pci/devices", vf)
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]string{"physfn": "../0000:01:00.0", "driver": "../../drivers/ixgbevf"} {
			if err := os.Symlink(to, filepath.Join(at, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, b, c := vswitch.MAC{2, 0, 0, 0, 0, 1}, vswitch.MAC{2, 0, 0, 0, 0, 2}, vswitch.MAC{2, 0, 0, 0, 0, 3}
	device := func(index int, name, parent string, macs ...vswitch.MAC) netlink.Link {
		l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name, ParentDev: parent, ParentDevBus: "pci", RawFlags: unix.IFF_LOWER_UP}}
		if len(macs) > 0 {
			l.HardwareAddr, l.PermHWAddr = macs[0][:], macs[1][:]
		}
		return l
	}
	all := hardware([]netlink.Link{
		device(9, "ports1", "0000:02:00.0"), device(8, "ports0", "0000:02:00.0"), device(7, "vf0", "0000:01:10.0", a, a), device(6, "vf1", "0000:01:10.2", c, b),
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: 5, Name: "veth0"}}, device(1, "lo", ""),
	}, buses)
	want := []netdev{
		{6, "vf1", "0000:01:10.2", "0000:01:00.0", "ixgbevf", true, [2]vswitch.MAC{c, b}},
		{7, "vf0", "0000:01:10.0", "0000:01:00.0", "ixgbevf", true, [2]vswitch.MAC{a, a}},
		{8, "ports0", "0000:02:00.0/ports0", "", "", true, [2]vswitch.MAC{}},
		{9, "ports1", "0000:02:00.0/ports1", "", "", true, [2]vswitch.MAC{}},
	}
	if diff := cmp.Diff(want, all, cmp.AllowUnexported(netdev{})); diff != "" {
		t.Error(diff)
	}
	for _, want := range []struct {
		nic   string
		mac   vswitch.MAC
		index int
	}{
		{"0000:01:10.0", c, 7},
		{"0000:01:00.0", a, 7},
		{"0000:01:00.0", b, 6},
		{"0000:01:00.0", c, 6},                             // which its owner gave it
		{"0000:01:00.0", vswitch.MAC{2, 0, 0, 0, 0, 4}, 0}, // a port with a pair, of an owner with VFs
		{"0000:02:00.0/ports1", a, 9},
		{"0000:02:00.0", a, 0},
		{"", a, 0},
	} {
		if n, _ := find(all, want.nic, want.mac); n.index != want.index {
			t.Errorf("NIC %q for %s is netdev %d, want %d", want.nic, want.mac, n.index, want.index)
		}
	}
}

func nested(kind uint16, parts ...[]byte) []byte {
	var data []byte
	for _, p := range parts {
		data = append(data, p...)
	}
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, kind|unix.NLA_F_NESTED), data...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func TestActiveFeatures(t *testing.T) {
	answer := func(set uint16, name string) []byte {
		return nested(set, nested(bitsetBits, nested(1, nested(1, []byte{5, 0, 0, 0}), nested(bitName, []byte(name+"\x00")))))
	}
	for name, c := range map[string]struct {
		features []byte
		want     bool
	}{
		"on":             {answer(featuresActive, espOffload), true},
		"only possible":  {answer(2, espOffload), false},
		"another":        {answer(featuresActive, "tx-esp-segmentation"), false},
		"part of a name": {answer(featuresActive, espOffload+"-ipv6"), false},
		"nothing":        {nil, false},
	} {
		if got := active(c.features, espOffload); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// Most of what comes and goes on a host of containers is of no interest.
func TestNews(t *testing.T) {
	message := func(kind uint16, attrs ...[]byte) []byte {
		n := unix.SizeofNlMsghdr + unix.SizeofIfInfomsg
		for _, a := range attrs {
			n += len(a)
		}
		b := binary.NativeEndian.AppendUint32(nil, uint32(n))
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = append(b, make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg-6)...)
		for _, a := range attrs {
			b = append(b, a...)
		}
		return b
	}
	parent := nested(unix.IFLA_PARENT_DEV_NAME, []byte("0000:01:00.0\x00"))
	for name, c := range map[string]struct {
		b    []byte
		want news
	}{
		"a veth":          {message(unix.RTM_NEWLINK, nested(unix.IFLA_IFNAME, []byte("veth0\x00"))), news{}},
		"a NIC":           {message(unix.RTM_NEWLINK, parent), news{netdevs: true}},
		"a NIC that goes": {message(unix.RTM_DELLINK, parent), news{netdevs: true}},
		"a route":         {message(unix.RTM_NEWROUTE), news{routes: true}},
		"both":            {append(message(unix.RTM_NEWLINK, parent), message(unix.RTM_DELADDR)...), news{true, true}},
		"nonsense":        {[]byte{200, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, news{true, true}},
	} {
		if got := newsIn(c.b); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(nested(featuresActive, nested(bitsetBits, nested(1, nested(bitName, []byte(espOffload+"\x00"))))))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = newsIn(b)
		if active(b, espOffload) && len(b) < len(espOffload) {
			t.Error("found where there is no room for it")
		}
	})
}

// Grants are read as they were written; half a file, and a file that somebody copied, are
// removed, and the rest is read.
func TestRecord(t *testing.T) {
	r := record{dir: filepath.Join(t.TempDir(), "state")}
	if all, err := r.load(); err != nil || len(all) != 0 {
		t.Fatal(all, err)
	}
	want := grant{Port: "with/odd\x00name", NIC: "0000:01:00.0", MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, Generation: 1<<63 + 1, MaxSAs: 512, Netns: "/run/netns/a", Inode: 4026531840}
	for _, g := range []grant{want, want, {Port: "gone"}} {
		if err := r.save(g); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := r.remove(grant{Port: "gone"}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(r.file(want))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"copy.json", "half.json"} {
		if err := os.WriteFile(filepath.Join(r.dir, bad), text, 0o600); err != nil {
			t.Fatal(err)
		}
		text = text[:len(text)/2]
	}
	for range 2 {
		all, err := r.load()
		if diff := cmp.Diff([]grant{want}, all); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
	}
	if left, _ := os.ReadDir(r.dir); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
}

// One who listens slowly hears the last of each grant, and all of them.
func TestListenersHearTheLast(t *testing.T) {
	var l listeners
	a, b := sdk.Ref{Port: "a"}, sdk.Ref{Port: "b"}
	heard := make(chan sdk.Event)
	listening := make(chan struct{})
	var once sync.Once
	go func() {
		_ = l.listen(t.Context(), func(e sdk.Event) error { // ends with the test
			if e.Detail == "first" {
				once.Do(func() { close(listening) })
			}
			heard <- e
			return nil
		})
	}()
	for waiting := true; waiting; { // one who does not listen yet misses it
		l.tell(sdk.Event{Ref: a, Detail: "first"})
		select {
		case <-listening:
			waiting = false
		default:
			runtime.Gosched()
		}
	}
	for _, detail := range []string{"1", "2", "3"} {
		l.tell(sdk.Event{Ref: a, Detail: detail})
		l.tell(sdk.Event{Ref: b, Detail: detail})
	}
	for _, want := range []sdk.Event{{Ref: a, Detail: "first"}, {Ref: a, Detail: "3"}, {Ref: b, Detail: "3"}} {
		if got := <-heard; got != want {
			t.Errorf("heard %+v, want %+v", got, want)
		}
	}
}

// A namespace that went before its end was waited for, and one that another has taken the
// place of since, are over as well: what is open in one would keep it alive.
func TestEndsInBetween(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.Symlink(hostNetns, path); err != nil {
		t.Fatal(err)
	}
	p := New("test")
	defer p.ends.close()
	other := &owner{grants: map[sdk.Ref]grant{{Port: "other"}: {Port: "other"}}}
	if err := p.put(other, grant{Port: "p", Netns: path, Inode: 1}); !errors.Is(err, vswitch.NetnsNotFound) {
		t.Errorf("in place of another: %v", err)
	}
	if len(p.ends.paths) > 0 || len(p.grants) > 0 {
		t.Errorf("left are %v, %v", p.ends.paths, p.grants)
	}
	gone := make(chan string, 10)
	e := newEnds(func(path string) { gone <- path })
	defer e.close()
	if err := errors.Join(e.await(path), os.Remove(path), os.Symlink(hostNetns, path)); err != nil {
		t.Fatal(err)
	}
	if got := <-gone; got != path {
		t.Errorf("%s is gone", got)
	}
}

// The end of a path is heard of by whatever name its directory has, once for each that asked
// and not for those who do not any more; so is the end of a process.
func TestEnds(t *testing.T) {
	dir := t.TempDir()
	run, varRun := filepath.Join(dir, "run"), filepath.Join(dir, "var-run")
	if err := errors.Join(os.Mkdir(run, 0o755), os.Symlink("run", varRun)); err != nil {
		t.Fatal(err)
	}
	gone := make(chan string, 10)
	e := newEnds(func(path string) { gone <- path })
	defer e.close()
	one, two, forgotten := filepath.Join(run, "one"), filepath.Join(varRun, "two"), filepath.Join(run, "forgotten")
	for _, path := range []string{forgotten, one, two} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), e.await(path)); err != nil {
			t.Fatal(err)
		}
	}
	e.forget(forgotten)
	for _, path := range []string{forgotten, one, two} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{one, two} {
		if got := <-gone; got != want {
			t.Errorf("%s is gone, want %s", got, want)
		}
	}
	process := exec.Command("cat")
	in, err := process.StdinPipe()
	if err == nil {
		err = process.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/ns/net", process.Process.Pid)
	if err := e.await(path); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.Close(), process.Wait()); err != nil {
		t.Fatal(err)
	}
	if got := <-gone; got != path {
		t.Errorf("%s is gone, want %s", got, path)
	}
}
