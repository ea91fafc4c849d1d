package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// rootfs makes the files of a container: busybox and the links of its applets.
func rootfs(t *testing.T) string {
	t.Helper()
	tool(t, "busybox")
	busybox, err := exec.LookPath("busybox")
	ok(t, err)
	binary, err := os.ReadFile(busybox)
	ok(t, err)
	dir := filepath.Join(t.TempDir(), "rootfs")
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "run", "var", "www"} {
		ok(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	ok(t, os.WriteFile(filepath.Join(dir, "bin/busybox"), binary, 0o755))
	ok(t, os.WriteFile(filepath.Join(dir, "www/index.html"), []byte("hello from the container\n"), 0o644))
	for _, applet := range []string{"sh", "ip", "ping", "cat", "httpd", "sleep"} {
		ok(t, os.Symlink("busybox", filepath.Join(dir, "bin", applet)))
	}
	return dir
}

// forRuntimes is a list as an administrator would write it for a runtime.
const forRuntimes = `{"cniVersion":"1.0.0","name":"tnet","plugins":[
	{"type":"patchbay","switch":{"name":"prod","type":"internal","gateway":["10.88.77.1/24","fd88::1/64"],"masquerade":true},
	 "ipam":{"type":"patchbay","ranges":[[{"subnet":"10.88.77.0/24"}],[{"subnet":"fd88::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]},
	 "capabilities":{"mac":true,"ips":true,"ipRanges":true}},
	{"type":"portmap","backend":"nftables","capabilities":{"portMappings":true}}]}`

// installCNI puts the plugins and the list where runtimes look for them. The
// sandbox overlays these directories.
func installCNI(t *testing.T, h *testHost) {
	t.Helper()
	for _, dir := range []string{"/opt/cni", "/etc/cni"} {
		ok(t, os.RemoveAll(dir))
		t.Cleanup(func() { ok(t, os.RemoveAll(dir)) })
	}
	ok(t, os.MkdirAll("/opt/cni/bin", 0o755))
	ok(t, os.MkdirAll("/etc/cni/net.d", 0o755))
	ok(t, os.WriteFile("/etc/cni/net.d/10-tnet.conflist", []byte(forRuntimes), 0o644))
	for _, dir := range h.PluginPath() {
		plugins, err := filepath.Glob(filepath.Join(dir, "*"))
		ok(t, err)
		for _, p := range plugins {
			ok(t, os.Symlink(p, filepath.Join("/opt/cni/bin", filepath.Base(p))))
		}
	}
}

// startContainerd starts a containerd of the host's own and returns its socket.
func startContainerd(t *testing.T, h *testHost) string {
	t.Helper()
	tool(t, "containerd", "ctr", "runc")
	dir, err := os.MkdirTemp("/run", "cd") // a socket's path is at most 108 bytes
	ok(t, err)
	socket := filepath.Join(dir, "c.sock")
	conf := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		filepath.Join(h.Dir, "containerd"), filepath.Join(dir, "state"), socket, filepath.Join(dir, "t.sock"))
	ok(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(conf), 0o644))
	log, err := os.Create(filepath.Join(dir, "log"))
	ok(t, err)
	c := exec.Command("containerd", "-c", filepath.Join(dir, "config.toml"))
	c.Stdout, c.Stderr = log, log
	ok(t, host.StartNotifying(h.Netns, c))
	t.Cleanup(func() {
		ok(t, c.Process.Signal(os.Interrupt))
		_ = c.Wait() // it exits with 0 or by the signal
		if t.Failed() {
			text, err := os.ReadFile(log.Name())
			t.Logf("containerd (%v):\n%s", err, text)
		}
		ok(t, log.Close())
	})
	return socket
}

// TestContainerd runs real containers with `ctr run --cni` and runc.
func TestContainerd(t *testing.T) {
	h := newHost(t)
	installCNI(t, h)
	root := rootfs(t)
	socket := startContainerd(t, h)
	for i := range 2 {
		out, err := h.RunEnv(h.Env(), "ctr", "-a", socket, "run", "--rm", "--cni", "--rootfs", root, fmt.Sprintf("t%d", i),
			"/bin/sh", "-c", "ip addr; ping -c 1 -W 5 10.88.77.1 && ping -c 1 -W 5 fd88::1")
		ok(t, err)
		for _, want := range []string{"inet 10.88.77.", "inet6 fd88::", "1 packets received"} {
			if !strings.Contains(out, want) {
				t.Errorf("container %d does not print %q:\n%s", i, want, out)
			}
		}
	}
}
