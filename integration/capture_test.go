package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// capture is a `patchbay capture` at work.
type capture struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  io.Reader
	errs bytes.Buffer
	read []byte
}

// capturing begins a capture of a port to a pipe. When it returns, nothing is missed.
func (h *testHost) capturing(port string, args ...string) *capture {
	h.t.Helper()
	c := &capture{t: h.t, cmd: exec.Command(filepath.Join(h.Root, "bin/patchbay"), append([]string{"capture", port}, args...)...)}
	c.cmd.Env = append(os.Environ(), h.Env()...)
	c.cmd.Stderr = &c.errs
	var err error
	c.out, err = c.cmd.StdoutPipe()
	ok(h.t, err)
	ok(h.t, h.Do(c.cmd.Start))
	c.await(0) // what the file begins with is written when it listens
	return c
}

// await reads until so many frames have come.
func (c *capture) await(frames int) host.Capture {
	c.t.Helper()
	buf := make([]byte, 64<<10)
	for {
		if got, err := host.ReadCapture(c.read); err == nil && got.Name != "" && len(ofTest(got.Frames)) >= frames {
			return got
		}
		n, err := c.out.Read(buf)
		if err != nil {
			c.t.Fatalf("capture ends with %v and says %s", err, c.errs.String())
		}
		c.read = append(c.read, buf[:n]...)
	}
}

// ofTest are the frames that no IPv6 has sent by itself.
func ofTest(frames []host.CapturedFrame) []host.CapturedFrame {
	return slices.DeleteFunc(slices.Clone(frames), func(f host.CapturedFrame) bool { return bytes.Equal(f.Data[12:14], []byte{0x86, 0xdd}) })
}

// end interrupts the capture and returns all of it, and what it says.
func (c *capture) end() (host.Capture, string) {
	c.t.Helper()
	ok(c.t, c.cmd.Process.Signal(syscall.SIGINT))
	return c.ended()
}

// ended is what a capture leaves that ends by itself.
func (c *capture) ended() (host.Capture, string) {
	c.t.Helper()
	rest, err := io.ReadAll(c.out)
	ok(c.t, err)
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("capture: %v: %s", err, c.errs.String())
	}
	c.read = append(c.read, rest...)
	got, err := host.ReadCapture(c.read)
	ok(c.t, err)
	return got, c.errs.String()
}

// tcpdump reads a file where there is a tcpdump, and nothing where there is none.
func tcpdump(t *testing.T, file []byte) (text string, there bool) {
	t.Helper()
	path, err := exec.LookPath("tcpdump")
	if err != nil {
		return "", false
	}
	cmd := exec.Command(path, "-Z", "root", "-nn", "-e", "-r", "-", "not", "ip6")
	cmd.Stdin = bytes.NewReader(file)
	out, err := cmd.Output()
	ok(t, err)
	return string(out), true
}

// TestCapture: what passes a port comes out for programs that read pcapng, in the owner's
// view, with tags, and what a guard drops too.
func TestCapture(t *testing.T) {
	h := newHost(t)
	n := h.network(private(`,"dhcpGuard":true`))
	a, _ := h.attached(n, "a")
	b, _ := h.attached(n, "b")
	onA, onB := h.tap(a.Netns, "eth0"), h.tap(b.Netns, "eth0")
	c := h.capturing("a")
	frame := func(from, to *host.Tap, text string) []byte {
		f := append(append([]byte(nil), to.MAC()...), from.MAC()...)
		f = append(append(f, 0x88, 0xb5), text...)
		ok(t, from.SendRaw(f))
		return f
	}
	var want []string
	for i := range 3 {
		want = append(want, fmt.Sprintf("out %x", frame(onA, onB, fmt.Sprintf("question %d", i))))
		c.await(len(want))
		want = append(want, fmt.Sprintf("in %x", frame(onB, onA, fmt.Sprintf("answer %d", i))))
		c.await(len(want))
	}
	tagged := append(append([]byte(nil), onB.MAC()...), onA.MAC()...)
	tagged = append(tagged, 0x81, 0x00, 0x60, 0x2a, 0x88, 0xb5, 'v', 'l', 'a', 'n')
	offer := dhcpOffer(onA, "guarded")
	for _, f := range [][]byte{tagged, offer} {
		ok(t, onA.SendRaw(f))
		want = append(want, fmt.Sprintf("out %x", f))
		c.await(len(want))
	}
	all, said := c.end()
	var got []string
	for _, f := range ofTest(all.Frames) {
		direction := "out"
		if f.In {
			direction = "in"
		}
		got = append(got, fmt.Sprintf("%s %x", direction, f.Data))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("captured\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(all.Frames); said != fmt.Sprintf("%d frames captured\n", n) || !all.Ended || all.Received != n {
		t.Errorf("it ends with %q, and the file with %+v", said, all)
	}
	if text, there := tcpdump(t, c.read); there {
		for _, words := range []string{"ethertype 802.1Q (0x8100), length 22: vlan 42, p 3", "10.9.0.66.67 > 255.255.255.255.68: BOOTP/DHCP"} {
			if strings.Count(text, words) != 1 || strings.Count(text, "(0x88b5)") != 7 {
				t.Errorf("tcpdump reads no %q:\n%s", words, text)
			}
		}
	}

	one := h.capturing("a", "--direction", "in", "--snaplen", "20")
	frame(onA, onB, "not this way")
	answer := frame(onB, onA, "this way, in part")
	if got := one.await(1); len(ofTest(got.Frames)) != 1 || !bytes.Equal(ofTest(got.Frames)[0].Data, answer[:20]) || ofTest(got.Frames)[0].Length != len(answer) {
		t.Errorf("captured %+v, want the beginning of %x", got.Frames, answer)
	}
	one.end()

	gone := h.capturing("b")
	ok(t, n.Del(b))
	if _, said := gone.ended(); !strings.HasSuffix(said, "; the port is gone\n") {
		t.Errorf("of a port that goes: %q", said)
	}
	ok(t, n.Del(a))
}
