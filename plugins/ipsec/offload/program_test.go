package offload_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/plugins/ipsec/offload"
	"github.com/patchbay-net/patchbay/plugins/ipsec/xfrm"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
	"github.com/patchbay-net/patchbay/sdk/host"
)

// program is the plugin as it is built, in memory: a guest reads the source tree slowly.
func program(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../bin/plugins/patchbay-plugin-ipsec")
	path := filepath.Join(t.TempDir(), "patchbay-plugin-ipsec")
	if err == nil {
		err = os.WriteFile(path, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// patience is how long a program may take in a guest, beside which others run.
func patience() host.Limits {
	l := host.DefaultLimits()
	l.Start, l.Read, l.Change = time.Minute, time.Minute, time.Minute
	return l
}

func config(t *testing.T, state string) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]string{"state": state})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestConformance tries the provider in this process, with a NIC that takes SAs and some that
// do not, and with an SA that it places meanwhile.
func TestConformance(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	nic := newCard(t, 1)
	nic.add(100, 1, gcm)
	conformance.Test(t, conformance.InMemory(func() sdk.Provider { return offload.New("test") }), conformance.Options{Config: config(t, t.TempDir()), Timeout: 5 * time.Minute})
	if all, on := states(t); all != 1 || on != 0 {
		t.Errorf("%d SAs, %d on the NIC; want 1, 0", all, on)
	}
}

// TestConformanceOfProgram is the same for the program.
func TestConformanceOfProgram(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	nic := newCard(t, 1)
	nic.add(100, 1, gcm)
	target, err := conformance.ProgramWithin(program(t), patience(), nil)
	if err != nil {
		t.Fatal(err)
	}
	conformance.Test(t, target, conformance.Options{Config: config(t, t.TempDir()), Timeout: 5 * time.Minute})
	if all, on := states(t); all != 1 || on != 0 {
		t.Errorf("%d SAs, %d on the NIC; want 1, 0", all, on)
	}
}

// keys are the numbers and keys of all SAs, as iproute2 shows them.
func keys(t *testing.T) []string {
	t.Helper()
	all := regexp.MustCompile(`spi 0x[0-9a-f]+|aead .*`).FindAllString(run(t, "ip", "xfrm", "state"), -1)
	slices.Sort(all)
	return all
}

// TestKill: the program is killed in the middle of its work, ever later in it, on the way to
// the NIC and back. No SA is lost or another, and the next process goes on where it ended.
func TestKill(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	const sas = 24
	nic := newCard(t, 1)
	nic.add(100, sas, gcm)
	want := keys(t)
	state := t.TempDir()
	executable, err := host.ExecutableAt(program(t))
	if err != nil {
		t.Fatal(err)
	}
	start := func() *host.Plugin {
		return host.Open(host.Options{Executable: executable, Config: config(t, state), RunDir: t.TempDir(), Vouched: true, Limits: patience()})
	}
	r := request("p", nic.nic(), 1, sas)
	for round, after := range []int{1, 2, 9, 23, 5, 16} {
		back := round%2 == 1
		p := start()
		if _, err := p.Grants(t.Context()); err != nil {
			t.Fatal(err)
		}
		watch, err := xfrm.OpenWatch()
		if err != nil {
			t.Fatal(err)
		}
		go func() { // kills it when that many SAs were removed to be made anew
			removed := 0
			_ = watch.Run(t.Context(), func(events []xfrm.Event) { // ends with the watch
				for _, e := range events {
					if e.Kind != xfrm.Removed {
						continue
					}
					if removed++; removed == after {
						_ = unix.Kill(p.Status().PID, unix.SIGKILL) // it may have ended by itself
					}
				}
			})
		}()
		r.Generation++
		if back {
			_ = p.Release(t.Context(), r.Ref, r.Generation)
		} else {
			_, _ = p.Ensure(t.Context(), r)
		}
		p.Close()
		if err := watch.Close(); err != nil {
			t.Fatal(err)
		}
		_, on := states(t)
		t.Logf("killed after %d of %d moves, back: %t; %d SAs are on the NIC, and its driver has %d", after, sas, back, on, nic.held())
		if got := keys(t); !slices.Equal(got, want) || on != nic.held() {
			t.Fatalf("the SAs are\n%s\nand were\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		p = start()
		grants, err := p.Grants(t.Context())
		released := back && on == 0 // all but the last was done, and the kill may come late for that
		if err != nil || len(grants) > 1 || len(grants) == 0 && !released || len(grants) == 1 && grants[0].Ref != r.Ref {
			t.Fatalf("after the kill there are %+v: %v", grants, err)
		}
		if back {
			err = p.Release(t.Context(), r.Ref, r.Generation)
		} else {
			_, err = p.Ensure(t.Context(), r)
		}
		p.Close()
		placed := sas
		if back {
			placed = 0
		}
		if err != nil || nic.held() != placed || !slices.Equal(keys(t), want) {
			t.Fatalf("done again: %d on the NIC, want %d: %v", nic.held(), placed, err)
		}
	}
}
