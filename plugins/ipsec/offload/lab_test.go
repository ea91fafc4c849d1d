package offload_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/ipsec/offload"
	"github.com/patchbay-net/patchbay/plugins/ipsec/xfrm"
	"github.com/patchbay-net/patchbay/sdk"
)

// run runs a program that has to succeed.
func run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// card is a NIC in memory that takes 33 SAs, with the address 10.0.ID.1/24.
type card struct {
	t      testing.TB
	id     int
	netdev string
}

// nic is what the plugin calls it.
func (c card) nic() string { return fmt.Sprintf("netdevsim%d", c.id) }

func newCard(t testing.TB, id int) card {
	t.Helper()
	const bus = "/sys/bus/netdevsim"
	if err := os.WriteFile(bus+"/new_device", fmt.Appendf(nil, "%d 1 1", id), 0o200); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(bus+"/del_device", fmt.Appendf(nil, "%d", id), 0o200) })
	entries, err := os.ReadDir(fmt.Sprintf("%s/devices/netdevsim%d/net", bus, id))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v: %v", entries, err)
	}
	c := card{t, id, entries[0].Name()}
	run(t, "ip", "link", "set", c.netdev, "up")
	run(t, "ip", "addr", "add", fmt.Sprintf("10.0.%d.1/24", id), "dev", c.netdev)
	t.Cleanup(func() { run(t, "ip", "xfrm", "state", "flush") })
	return c
}

// held is how many SAs the driver has.
func (c card) held() int {
	c.t.Helper()
	const at = "/sys/kernel/debug"
	if err := unix.Mount("debugfs", at, "debugfs", 0, ""); err != nil && err != unix.EBUSY {
		c.t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("%s/netdevsim/netdevsim%d/ports/0/ipsec", at, c.id))
	if err != nil {
		c.t.Fatal(err)
	}
	n, err := strconv.Atoi(regexp.MustCompile(`SA count=(\d+)`).FindStringSubmatch(string(text))[1])
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

const (
	gcm = "mode transport replay-window 32 aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 128"
	cbc = "mode transport enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213 96"
)

// add makes SAs that send by the card, numbered from first on.
func (c card) add(first, n int, settings string) {
	c.t.Helper()
	batch := ""
	for i := range n {
		batch += fmt.Sprintf("xfrm state add src 10.0.%d.1 dst 10.0.%d.2 proto esp spi %d %s\n", c.id, c.id, first+i, settings)
	}
	ip := exec.Command("ip", "-batch", "-")
	ip.Stdin = strings.NewReader(batch)
	if out, err := ip.CombinedOutput(); err != nil {
		c.t.Fatalf("add SAs: %v: %s", err, out)
	}
}

func (c card) remove(spi int) {
	c.t.Helper()
	run(c.t, "ip", "xfrm", "state", "delete", "dst", fmt.Sprintf("10.0.%d.2", c.id), "proto", "esp", "spi", strconv.Itoa(spi))
}

// states counts the SAs that iproute2 shows, all and those on a NIC.
func states(t testing.TB) (all, offloaded int) {
	t.Helper()
	text := run(t, "ip", "xfrm", "state")
	return strings.Count(text, "proto esp"), strings.Count(text, "crypto offload parameters")
}

// bench is a provider with who listens to it.
type bench struct {
	*offload.Provider
	t      testing.TB
	events chan sdk.Event
}

func newBench(t testing.TB, state string) *bench {
	t.Helper()
	b := &bench{offload.New("test"), t, make(chan sdk.Event, 1000)}
	if err := b.Configure(t.Context(), sdk.Config{"state": state}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_ = b.WatchEvents(ctx, func(e sdk.Event) error { b.events <- e; return nil }) // ends with the test
	}()
	t.Cleanup(func() {
		cancel()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func request(port, nic string, generation uint64, most int) sdk.Request {
	return sdk.Request{
		Ref: sdk.Ref{Port: port, Feature: vswitch.IPsec}, NIC: nic, Generation: generation, MaxSAs: most,
		Owner: vswitch.OwnerHost, MAC: vswitch.MAC{2, 0, 0, 0, 0, 1},
	}
}

func (b *bench) ensure(r sdk.Request) sdk.Grant {
	b.t.Helper()
	if err := r.Validate(); err != nil {
		b.t.Fatal(err)
	}
	g, err := b.Ensure(b.t.Context(), r)
	if err != nil {
		b.t.Fatalf("ensure %s: %v", r.Ref, err)
	}
	return g
}

func (b *bench) release(r sdk.Request) {
	b.t.Helper()
	if err := b.Release(b.t.Context(), r.Ref, r.Generation); err != nil {
		b.t.Fatalf("release %s: %v", r.Ref, err)
	}
}

// state is a grant in words: "2 of 3 on netdevsim1 REFUSED (why)".
func (b *bench) state(port string) string {
	b.t.Helper()
	ref := sdk.Ref{Port: port, Feature: vswitch.IPsec}
	all, err := b.Grants(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, g := range all {
		if g.Ref != ref {
			continue
		}
		text := strings.TrimSpace(fmt.Sprintf("%d of %d on %s %s", g.SAsHeld, g.SAs, g.NIC, g.Reason))
		if g.Detail != "" {
			text += " (" + g.Detail + ")"
		}
		return text
	}
	return "nothing"
}

// await waits until a grant is so, which events tell.
func (b *bench) await(port, want string) {
	b.t.Helper()
	b.until(func() bool { return b.state(port) == want }, func() string {
		return fmt.Sprintf("port %s has %q, want %q", port, b.state(port), want)
	})
}

// until waits for what events tell of.
func (b *bench) until(so func() bool, otherwise func() string) {
	b.t.Helper()
	late := time.After(time.Minute)
	for !so() {
		select {
		case <-b.events:
		case <-late:
			b.t.Fatal(otherwise())
		}
	}
}

// follow has changes of a namespace's SAs wake those who wait, besides the provider's events.
func (b *bench) follow(ns string) {
	b.t.Helper()
	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			err = errors.Join(unix.Setns(int(f.Fd()), unix.CLONE_NEWNET), f.Close())
		}
		var watch *xfrm.Watch
		if err == nil {
			watch, err = xfrm.OpenWatch()
		}
		if opened <- err; err != nil {
			return
		}
		context.AfterFunc(b.t.Context(), func() { _ = watch.Close() }) // which ends it
		_ = watch.Run(b.t.Context(), func([]xfrm.Event) { b.events <- sdk.Event{} })
	}()
	if err := <-opened; err != nil {
		b.t.Fatal(err)
	}
}

// quoted are settings of an SA as a shell takes them.
func quoted(settings string) string {
	return strings.NewReplacer("(", "\\(", ")", "\\)").Replace(settings)
}

func contains(text string, all ...string) bool {
	for _, part := range all {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
