package handover

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
)

// Of a domain whose definition has no mark of ours the notes of its networks tell.
func TestOurs(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	t.Setenv(wire.RunDirEnv, run)
	network := func(name, operation, document string) bool {
		return ours(wire.HookCall{Driver: call.Network, Object: name, Operation: operation, Stdin: []byte(document)})
	}
	domain := func(document string) bool {
		return ours(wire.HookCall{Driver: call.QEMU, Object: "vm", Operation: call.Release, Stdin: []byte(document)})
	}
	const mark = "<metadata><p:switch xmlns:p='https://patchbay.net/xmlns/libvirt/network/1.0'/></metadata>"
	const on, other = "<source network='prod'/>", "<source network='default'/>"
	if domain(on) || network("default", call.Start, "<network/>") {
		t.Error("ours, before there is anything of ours")
	}
	if _, err := os.Stat(run); err == nil {
		t.Error("a directory was made for nothing")
	}
	if !network("prod", call.Start, mark) || !domain(other+on) || domain(other) {
		t.Error("a network of ours is not known again")
	}
	if !domain("<source network='a&amp;b'/>") {
		t.Error("of a name that XML writes otherwise nobody knows")
	}
	if network("prod", "stopped", "<network/>") || !domain(on) {
		t.Error("a network that stops has guests still")
	}
	if network("prod", call.Start, "<network/>") || domain(on) {
		t.Error("another network of the name is not ours")
	}
	if !network("../../x/y", call.PortCreated, mark) || !domain("<source network='../../x/y'/>") {
		t.Error("a name with slashes")
	}
	found, err := filepath.Glob(filepath.Join(run, "libvirt", "*"))
	if err != nil || len(found) != 1 || filepath.Base(found[0]) != "%2e.%2f..%2fx%2fy" {
		t.Errorf("notes %v, %v", found, err)
	}
}

// Arguments that are not libvirt's are for people.
func TestNotACall(t *testing.T) {
	if rest := handOver([]string{"patchbay-libvirt-hook", "--help"}); rest.Call.Driver != "" {
		t.Errorf("%+v", rest)
	}
}

// FuzzNote: whatever a network is called, its note is a file of the directory of notes, and no
// other network's.
func FuzzNote(f *testing.F) {
	f.Add("prod", "<source network='prod'/>")
	f.Add("../../etc/passwd", "<bridge name='pb-x'")
	f.Add(".%2e\x00", "network='a&b' https://patchbay.net/xmlns/libvirt/")
	run := f.TempDir()
	f.Setenv(wire.RunDirEnv, run)
	f.Fuzz(func(t *testing.T, name, document string) {
		file := fileName(name)
		if filepath.Base(file) != file && name != "" || strings.HasPrefix(file, ".") || strings.ContainsRune(file, 0) {
			t.Fatalf("the note of %q is %q", name, file)
		}
		if back, err := url.PathUnescape(file); err != nil || back != name {
			t.Errorf("the note of %q is that of %q, %v", name, back, err)
		}
		c := wire.HookCall{Driver: call.Network, Object: name, Operation: call.Start, Stdin: []byte(document)}
		const longest = 255
		marked := ours(c)
		if is := noted(run, name); len(file) <= longest && !strings.Contains(name, "&") && name != "" && is != marked {
			t.Errorf("network %q: ours %v, noted %v", name, marked, is)
		}
		c.Operation, c.Stdin = call.Start, nil
		_ = ours(c) // takes the note away
		if filepath.IsLocal(file) && noted(run, name) && !strings.Contains(name, "&") {
			t.Errorf("network %q is noted still", name)
		}
		c.Driver, c.Stdin = call.QEMU, []byte(document)
		_ = ours(c)
	})
}
