package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/integration/host"
)

// runCapture runs the command with a netdev that two frames pass.
func (h *fakeHost) runCapture(t terminal, capture capturer, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	var out, errs strings.Builder
	c := cli{open: func() *api.Client { return h.client }, capture: capture, stdout: &out, stderr: &errs, root: true, terminal: t}
	code = c.run(context.Background(), append([]string{"capture"}, args...))
	return out.String(), errs.String(), code
}

// twoFrames captures one frame each way, and notes what was asked for.
func twoFrames(asked *kernel.CaptureRequest) capturer {
	return func(_ context.Context, req kernel.CaptureRequest) (kernel.CaptureReport, error) {
		*asked = req
		at := time.Unix(1_700_000_000, 5)
		err := errors.Join(
			req.Frame(kernel.CapturedFrame{Time: at, Sent: true, Length: 60, Data: []byte("to the guest")}),
			req.Frame(kernel.CapturedFrame{Time: at, Length: 9, Data: []byte("to others")}), req.Idle())
		return kernel.CaptureReport{Frames: 2, Dropped: 3, Gone: true}, err
	}
}

func TestCaptureCommand(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	port := h.attach("lan", "db-2", "10.0.10.0/24")
	var asked kernel.CaptureRequest
	const told = "2 frames captured, 3 came too fast and are missing; the port is gone\n"
	stdout, stderr, code := h.runCapture(terminal{}, twoFrames(&asked), "db-2", "--direction", "in", "--count", "5", "--snaplen", "100")
	if code != exitOK || stderr != told {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	if asked.Netdev != port.Netdev || asked.Direction != kernel.OnlySent || asked.Count != 5 || asked.Snaplen != 100 {
		t.Errorf("asked for %+v", asked)
	}
	c, err := host.ReadCapture([]byte(stdout))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != port.ID || !strings.Contains(c.Description, "container db-2 eth0 on switch lan") || c.Received != 5 || c.Dropped != 3 {
		t.Errorf("wrote %+v", c)
	}
	if len(c.Frames) != 2 || !c.Frames[0].In || c.Frames[1].In || c.Frames[0].Length != 60 || string(c.Frames[1].Data) != "to others" {
		t.Errorf("wrote %+v", c.Frames)
	}

	file := filepath.Join(t.TempDir(), "db-2.pcapng")
	out, stderr, code := h.runCapture(terminal{columns: 80}, twoFrames(&asked), "db-2", "-w", file, "-o", "json")
	if code != exitOK || out != "" || !strings.Contains(stderr, `"dropped": 3`) || asked.Direction != kernel.BothDirections {
		t.Errorf("exit code %d, wrote %q, said %q", code, out, stderr)
	}
	written, err := os.ReadFile(file)
	if again, failed := host.ReadCapture(written); err != nil || failed != nil || len(again.Frames) != 2 {
		t.Errorf("the file: %v, %v, %+v", err, failed, again)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
}

func TestCaptureRefusals(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	never := func(context.Context, kernel.CaptureRequest) (kernel.CaptureReport, error) {
		t.Error("it captures")
		return kernel.CaptureReport{}, nil
	}
	for name, c := range map[string]struct {
		args string
		want string
	}{
		"a terminal":          {"web-1", "| tshark -r -"},
		"no port":             {"nobody -w /dev/null", "patchbay port list"},
		"a direction":         {"web-1 -w /dev/null --direction sideways", "none of in, out, both"},
		"no frames":           {"web-1 -w /dev/null --count -1", "less than none"},
		"less than a header":  {"web-1 -w /dev/null --snaplen 13", "outside 14-"},
		"more than any frame": {"web-1 -w /dev/null --snaplen 1000000", "outside 14-"},
		"a file that is not":  {"web-1 -w /nowhere/file", "/nowhere/file"},
		"more words than one": {"web-1 db -w /dev/null", "one word too many"},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, code := h.runCapture(terminal{columns: 80}, never, strings.Fields(c.args)...)
			if code == exitOK || !strings.Contains(stderr, c.want) || !strings.HasPrefix(stderr, "patchbay: capture") {
				t.Errorf("exit code %d, said %q", code, stderr)
			}
		})
	}
	broken := func(context.Context, kernel.CaptureRequest) (kernel.CaptureReport, error) {
		return kernel.CaptureReport{}, os.ErrPermission
	}
	if _, stderr, code := h.runCapture(terminal{}, broken, "web-1"); code == exitOK || !strings.Contains(stderr, "permission denied") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}
