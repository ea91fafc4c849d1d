package offload_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// charon is strongSwan's daemon at one end of a cable, in a namespace of its own.
type charon struct {
	t    *testing.T
	dir  string
	ns   string
	card card
}

// startCharon starts it as a distribution does, and returns when it listens.
func startCharon(t *testing.T, ns string, c card, local, remote int) charon {
	t.Helper()
	d := charon{t, t.TempDir(), ns, c}
	d.write("strongswan.conf", `charon {
	load_modular = yes
	delete_rekeyed_delay = 1
	filelog { stderr { default = 1 flush_line = yes } }
	plugins {
		include /etc/strongswan.d/charon/*.conf
		vici { socket = unix://`+d.socket()+` }
	}
}
`)
	d.write("swanctl.conf", fmt.Sprintf(`connections {
	peer {
		version = 2
		proposals = aes128-sha256-modp2048
		local_addrs = 10.0.1.%[1]d
		remote_addrs = 10.0.1.%[2]d
		local { auth = psk
			id = host%[1]d }
		remote { auth = psk
			id = host%[2]d }
		children { net { mode = transport
			esp_proposals = aes128gcm128 } }
	}
}
secrets { ike { secret = "for this test alone" } }
`, local, remote))
	cmd := exec.Command("ip", "netns", "exec", ns, "sh", "-c", "mount -t tmpfs run /var/run && exec /usr/lib/ipsec/charon")
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(d.dir, "strongswan.conf"))
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan string)
	go func() {
		defer close(ready)
		said := ""
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if said += lines.Text() + "\n"; strings.Contains(lines.Text(), "spawning") {
				ready <- ""
			}
		}
		ready <- said
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended
		said := <-ready
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("charon in %s: %v\n%s", ns, err, said)
		}
	})
	if said := <-ready; said != "" {
		t.Fatalf("charon does not start: %s", said)
	}
	d.swanctl("--load-all", "--file", filepath.Join(d.dir, "swanctl.conf"))
	return d
}

func (d charon) socket() string { return filepath.Join(d.dir, "vici") }

func (d charon) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d charon) swanctl(verb string, args ...string) string {
	d.t.Helper()
	return run(d.t, append([]string{"swanctl", verb, "--uri", "unix://" + d.socket()}, args...)...)
}

// numbers are those of the SAs in the namespace.
func (d charon) numbers() string {
	d.t.Helper()
	all := regexp.MustCompile(`spi 0x[0-9a-f]+`).FindAllString(run(d.t, "ip", "-n", d.ns, "xfrm", "state"), -1)
	slices.Sort(all)
	return strings.Join(all, " ")
}

// cable puts two NICs into namespaces of their own and joins them.
func cable(t *testing.T, left, right card) {
	t.Helper()
	ends := ""
	for i, end := range []struct {
		ns   string
		card card
	}{{"left", left}, {"right", right}} {
		run(t, "ip", "netns", "add", end.ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", end.ns) })
		nic, err := net.InterfaceByName(end.card.netdev)
		if err != nil {
			t.Fatal(err)
		}
		run(t, "ip", "link", "set", end.card.netdev, "netns", end.ns)
		run(t, "ip", "-n", end.ns, "link", "set", "lo", "up")
		run(t, "ip", "-n", end.ns, "addr", "add", fmt.Sprintf("10.0.1.%d/24", i+1), "dev", end.card.netdev)
		f, err := os.Open("/run/netns/" + end.ns)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() // read only
		ends += fmt.Sprintf("%d:%d ", f.Fd(), nic.Index)
	}
	if err := os.WriteFile("/sys/bus/netdevsim/link_device", []byte(strings.TrimSpace(ends)), 0o200); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "-n", "left", "link", "set", left.netdev, "up")
	run(t, "ip", "-n", "right", "link", "set", right.netdev, "up")
}

// TestStrongSwan: a real IKE daemon at both ends, which knows nothing of any offload. Its SAs
// go to the NICs when they are made, new ones take the places of old ones at a rekey, and
// taken back they encrypt with the same keys in software, where packets pass.
func TestStrongSwan(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	one, two := newCard(t, 1), newCard(t, 2)
	b := newBench(t, t.TempDir())
	cable(t, one, two)
	left, right := startCharon(t, "left", one, 1, 2), startCharon(t, "right", two, 2, 1)
	l, r := request("l", one.nic(), 1, 2), request("r", two.nic(), 1, 2)
	l.Netns, l.Owner, r.Netns, r.Owner = "/run/netns/left", vswitch.OwnerContainer, "/run/netns/right", vswitch.OwnerContainer
	b.ensure(l)
	b.ensure(r)

	left.swanctl("--initiate", "--child", "net")
	b.await("l", "2 of 2 on netdevsim1")
	b.await("r", "2 of 2 on netdevsim2")
	if one.held() != 2 || two.held() != 2 {
		t.Errorf("%d and %d are on the NICs, want 2 and 2", one.held(), two.held())
	}

	b.follow("left")
	b.follow("right")
	before := left.numbers()
	left.swanctl("--rekey", "--child", "net")
	b.until(func() bool {
		after := left.numbers()
		return after != before && len(after) == len(before) && after == right.numbers() &&
			b.state("l") == "2 of 2 on netdevsim1" && b.state("r") == "2 of 2 on netdevsim2"
	}, func() string {
		return fmt.Sprintf("before the rekey there were %s, after it %s and %s", before, left.numbers(), right.numbers())
	})
	if one.held() != 2 || two.held() != 2 {
		t.Errorf("%d and %d are on the NICs after the rekey, want 2 and 2", one.held(), two.held())
	}

	b.release(l)
	b.release(r)
	if one.held() != 0 || two.held() != 0 {
		t.Errorf("%d and %d are on the NICs after the release", one.held(), two.held())
	}
	run(t, "ip", "netns", "exec", "left", "ping", "-c", "3", "-i", "0.05", "-W", "5", "10.0.1.2")
	if list := left.swanctl("--list-sas"); !regexp.MustCompile(`(?s)in .* 3 packets.*out .* 3 packets`).MatchString(list) {
		t.Errorf("strongSwan says\n%s", list)
	}
	right.swanctl("--terminate", "--ike", "peer")
	if n := left.numbers() + right.numbers(); n != "" {
		t.Errorf("after the end there are %s", n)
	}
}
