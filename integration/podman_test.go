package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// podman's clean-up process gets no environment of ours: it works in Patchbay's
// default directories, which the sandbox has to itself.
func defaultDirs(t *testing.T, h *testHost) {
	t.Helper()
	for link, dir := range map[string]string{"/run/patchbay": h.RunDir(), "/var/lib/patchbay": h.StateDir()} {
		ok(t, os.Symlink(dir, link))
		t.Cleanup(func() { ok(t, os.Remove(link)) })
	}
}

// podman is a podman with directories of its own, on a host.
type podman struct {
	h   *testHost
	env []string
}

func newPodman(t *testing.T, h *testHost) *podman {
	t.Helper()
	tool(t, "podman", "conmon", "runc")
	dir, err := os.MkdirTemp("/run", "podman")
	ok(t, err)
	containers := `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
default_network = "tnet"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`
	storage := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", filepath.Join(dir, "graph"), filepath.Join(dir, "run"))
	ok(t, os.WriteFile(filepath.Join(dir, "containers.conf"), []byte(containers), 0o644))
	ok(t, os.WriteFile(filepath.Join(dir, "storage.conf"), []byte(storage), 0o644))
	return &podman{h: h, env: slices.Concat(os.Environ(), h.Env(), []string{
		"CONTAINERS_CONF=" + filepath.Join(dir, "containers.conf"), "CONTAINERS_STORAGE_CONF=" + filepath.Join(dir, "storage.conf"),
		"TMPDIR=" + dir,
	})}
}

// command is `podman run`, with what a root without CAP_SYS_RESOURCE needs.
func (p *podman) command(args ...string) *exec.Cmd {
	c := exec.Command("podman", append([]string{"run", "--rm", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "tnet"}, args...)...)
	c.Env = p.env
	return c
}

// TestPodman runs real containers with podman's CNI backend.
func TestPodman(t *testing.T) {
	h := newHost(t)
	outside := h.outside("eth0")
	h.run(h.Netns, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
	h.run(outside, "ip", "addr", "add", "192.0.2.1/24", "dev", "wan")
	defaultDirs(t, h)
	installCNI(t, h)
	h.portmapStays(h.network(forRuntimes))
	h.before = append(h.before, "mount /run/netns") // podman's own, and it stays
	p := newPodman(t, h)
	root := rootfs(t)

	t.Run("ip addr and ping", func(t *testing.T) {
		const ip, mac = "10.88.77.98", "02:00:00:00:00:98"
		var out []byte
		ok(t, h.Do(func() (err error) {
			out, err = p.command("--ip", ip, "--mac-address", mac, "--rootfs", root, "/bin/sh", "-c",
				"ip addr; ping -c 1 -W 5 10.88.77.1 && ping -c 1 -W 5 fd88::1").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("podman: %w: %s", err, out)
			}
			return err
		}))
		for _, want := range []string{"inet " + ip, mac, "inet6 fd88::", "1 packets received"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("the container does not print %q:\n%s", want, out)
			}
		}
	})
	t.Run("published port", func(t *testing.T) {
		c := p.command("-i", "-p", "8080:80", "--rootfs", root, "/bin/sh", "-c", "httpd -p 80 -h /www && echo ready && cat")
		c.Stderr = os.Stderr
		stdin, err := c.StdinPipe()
		ok(t, err)
		stdout, err := c.StdoutPipe()
		ok(t, err)
		ok(t, h.Do(c.Start))
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil || line != "ready\n" {
			t.Errorf("the container says %q (%v), want ready", line, err)
		} else {
			answer, err := outside.Exchange(netip.MustParseAddrPort("192.0.2.2:8080"), "GET /index.html HTTP/1.0\r\n\r\n", patience)
			if err != nil || !strings.Contains(answer, "hello from the container") {
				t.Errorf("the published port answers %q (%v)", answer, err)
			}
		}
		ok(t, stdin.Close())
		_, err = io.Copy(io.Discard, stdout)
		ok(t, err)
		ok(t, c.Wait())
	})
}
