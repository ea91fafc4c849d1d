package store

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The test binary runs itself as another process of Patchbay: these variables
// tell what to do there and on which store.
const (
	roleVar = "PATCHBAY_STORE_TEST_ROLE"
	baseVar = "PATCHBAY_STORE_TEST_DIR"
	nameVar = "PATCHBAY_STORE_TEST_NAME"
)

func TestMain(m *testing.M) {
	roles := map[string]func(dirs Dirs, name string) error{"attach": attachForever, "lock": lockAndWait, "cold": coldAttach}
	role := roles[os.Getenv(roleVar)]
	if role == nil {
		os.Exit(m.Run())
	}
	if err := role(dirsIn(os.Getenv(baseVar)), os.Getenv(nameVar)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// process starts the test binary in a role; it is killed when the test ends.
func process(t testing.TB, role, base, name string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+role, baseVar+"="+base, nameVar+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	return cmd, bufio.NewScanner(out)
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
}

// attachForever attaches and detaches ports until it is killed and prints each
// verb once it is done. name keeps the ports of processes apart.
func attachForever(dirs Dirs, name string) error {
	for i := 0; ; i++ {
		if err := New(testConfig(dirs)).Update(func(tx *Tx) error { return attach(tx, name+strconv.Itoa(i), "prod") }); err != nil {
			return err
		}
		fmt.Println("attached", name+strconv.Itoa(i))
		if i%3 == 2 {
			gone := name + strconv.Itoa(i-1)
			if err := New(testConfig(dirs)).Update(func(tx *Tx) error { return tx.DeletePort(gone) }); err != nil {
				return err
			}
			fmt.Println("detached", gone)
		}
	}
}

// dirsIn lays a store out below base.
func dirsIn(base string) Dirs {
	return Dirs{State: filepath.Join(base, "state"), Run: filepath.Join(base, "run")}
}

func testConfig(d Dirs) Config {
	return Config{Dirs: d, BootID: "boot-1", MachineID: "machine-1"}
}

// fixture is a store with a clock that stands still until it is moved.
type fixture struct {
	*Store
	dirs Dirs
	time time.Time
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{dirs: dirsIn(storetest.Dir(t)), time: time.Unix(1_700_000_000, 0)}
	f.Store = f.reopened("boot-1")
	return f
}

func (f *fixture) reopened(boot string) *Store {
	c := testConfig(f.dirs)
	c.BootID, c.Now = boot, func() time.Time { return f.time }
	return New(c)
}

func (f *fixture) update(t testing.TB, fn func(*Tx) error) {
	t.Helper()
	if err := f.Update(fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func (f *fixture) updateConfig(t testing.TB, fn func(*Tx) error) {
	t.Helper()
	if err := f.UpdateConfig(fn); err != nil {
		t.Fatalf("UpdateConfig: %v", err)
	}
}

func (f *fixture) view(t testing.TB, fn func(*Tx) error) {
	t.Helper()
	if err := f.View(fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

func (f *fixture) runFile() string { return f.runPath("boot-1") }

func (f *fixture) configFile() string { return filepath.Join(f.dirs.State, "config.db") }

// attach is what the engine does for a container.
func attach(tx *Tx, id, switchName string) error {
	mac, err := tx.LeaseMAC(id)
	if err != nil {
		return err
	}
	ip, err := tx.LeaseIP(switchName, ranges("10.0.0.0/16"), id)
	if err != nil {
		return err
	}
	return tx.PutPort(vswitch.Port{
		ID: id, Switch: switchName, MAC: mac, MTU: 1500, Netdev: id,
		Owner:     vswitch.Owner{Kind: vswitch.OwnerContainer, ID: "container-" + id, Netns: "/var/run/netns/" + id},
		Addresses: []vswitch.Address{{Prefix: netip.PrefixFrom(ip, 16)}},
	})
}

// ranges is a set of one range with the defaults filled in.
func ranges(subnet string) vswitch.IPRangeSet {
	r := vswitch.IPRange{Subnet: netip.MustParsePrefix(subnet)}
	return vswitch.IPRangeSet{r.WithDefaults(func(netip.Addr) (netip.Addr, bool) { return netip.Addr{}, false })}
}

// between is a range of a subnet whose gateway lies outside of it.
func between(subnet, first, last string) vswitch.IPRangeSet {
	p := netip.MustParsePrefix(subnet)
	return vswitch.IPRangeSet{{
		Subnet: p, Start: netip.MustParseAddr(first), End: netip.MustParseAddr(last), Gateway: p.Addr().Next(),
	}}
}

func macOf(t testing.TB, s string) vswitch.MAC {
	t.Helper()
	m, err := vswitch.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantKind(t testing.TB, err error, kind vswitch.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error %v, want kind %s", err, kind)
	}
}

func wantEqual(t testing.TB, got, want any) {
	t.Helper()
	if reflect.DeepEqual(got, want) { // a tenth of what cmp takes, and most are
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}

// checkConsistent demands that ports, members, counts and leases agree: each
// port holds its addresses and nobody else holds any.
func checkConsistent(t testing.TB, s *Store) map[string]vswitch.Port {
	t.Helper()
	ports := map[string]vswitch.Port{}
	err := s.View(func(tx *Tx) error {
		all, err := tx.Ports()
		if err != nil {
			return err
		}
		for _, p := range all {
			ports[p.ID] = p
		}
		of, err := tx.PortsOf("prod")
		if err != nil {
			return err
		}
		count, err := tx.PortCount("prod")
		if err != nil {
			return err
		}
		if len(of) != len(all) || count != len(all) {
			t.Errorf("%d ports, %d on the switch, counted %d", len(all), len(of), count)
		}
		macs, err := tx.MACs()
		if err != nil {
			return err
		}
		for _, l := range macs {
			if ports[l.Port].MAC != l.MAC {
				t.Errorf("port %q holds %s and has %s", l.Port, l.MAC, ports[l.Port].MAC)
			}
		}
		ips, err := tx.IPs("prod")
		if err != nil {
			return err
		}
		for _, l := range ips {
			if p := ports[l.Port]; len(p.Addresses) != 1 || p.Addresses[0].Prefix.Addr() != l.Addr {
				t.Errorf("port %q holds %s and has %v", l.Port, l.Addr, p.Addresses)
			}
		}
		if len(macs) != len(all) || len(ips) != len(all) {
			t.Errorf("%d ports hold %d MAC and %d IP addresses", len(all), len(macs), len(ips))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
