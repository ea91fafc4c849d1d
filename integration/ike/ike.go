// Package ike runs strongSwan for tests: a real IKE daemon in a network namespace, which knows
// nothing of any offload.
package ike

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Peer is a daemon of one end. Its connection is called peer, and has the children net, of
// all packets between the ends, and more, of TCP alone.
type Peer struct {
	t     testing.TB
	dir   string
	netns string
}

// Start starts a daemon as a distribution does, in the network namespace at a path, and
// returns when it has its settings. It ends with the test.
func Start(t testing.TB, netns, local, remote string) Peer {
	t.Helper()
	p := Peer{t, t.TempDir(), netns}
	p.write("strongswan.conf", `charon {
	load_modular = yes
	delete_rekeyed_delay = 1
	filelog { stderr { default = 1 flush_line = yes } }
	plugins {
		include /etc/strongswan.d/charon/*.conf
		vici { socket = unix://`+p.socket()+` }
	}
}
`)
	p.write("swanctl.conf", fmt.Sprintf(`connections {
	peer {
		version = 2
		mobike = no
		proposals = aes128-sha256-modp2048
		local_addrs = %[1]s
		remote_addrs = %[2]s
		local { auth = psk
			id = %[1]s }
		remote { auth = psk
			id = %[2]s }
		children {
			net { mode = transport
				esp_proposals = aes128gcm128 }
			more { mode = transport
				local_ts = dynamic[tcp]
				remote_ts = dynamic[tcp]
				esp_proposals = aes128gcm128 }
		}
	}
}
secrets { ike { secret = "for this test alone" } }
`, local, remote))
	p.start()
	p.Swanctl("--load-all", "--file", filepath.Join(p.dir, "swanctl.conf"))
	return p
}

func (p Peer) start() {
	p.t.Helper()
	cmd := exec.Command("nsenter", "--net="+p.netns, "unshare", "--mount", "sh", "-c", "mount -t tmpfs run /var/run && exec /usr/lib/ipsec/charon")
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(p.dir, "strongswan.conf"))
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
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
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended
		said := <-ready
		if err := cmd.Wait(); err != nil || p.t.Failed() {
			p.t.Errorf("charon in %s: %v\n%s", p.netns, err, said)
		}
	})
	if said := <-ready; said != "" {
		p.t.Fatalf("charon does not start: %s", said)
	}
}

func (p Peer) socket() string { return filepath.Join(p.dir, "vici") }

func (p Peer) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// Swanctl tells the daemon something, and returns what it says.
func (p Peer) Swanctl(verb string, args ...string) string {
	p.t.Helper()
	return p.run("swanctl", append([]string{verb, "--uri", "unix://" + p.socket()}, args...)...)
}

// Numbers are those of the SAs in the namespace, in order.
func (p Peer) Numbers() []string {
	p.t.Helper()
	all := regexp.MustCompile(`spi 0x[0-9a-f]+`).FindAllString(p.run("nsenter", "--net="+p.netns, "ip", "xfrm", "state"), -1)
	slices.Sort(all)
	return all
}

func (p Peer) run(name string, args ...string) string {
	p.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
