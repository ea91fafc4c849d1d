package handover

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/wire"
)

// plugin is the CNI plugin, built to begin with start.
func plugin(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "patchbay")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "-ldflags", "-E _patchbay_start", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// patchbayd gives each client the same answer, in these pieces; no pieces hang up. It hands
// on what was asked.
func patchbayd(t *testing.T, dir string, pieces [][]byte) (requests <-chan []byte) {
	t.Helper()
	l, err := net.Listen("unix", wire.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan []byte, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(came)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			body, _ := wire.ReadFrame(c, wire.MaxRequest) // what it lacks is missed below
			came <- body
			for _, piece := range pieces {
				_, _ = c.Write(piece) // the client may be content with less
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return came
}

func bytewise(b []byte) (pieces [][]byte) {
	for i := range b {
		pieces = append(pieces, b[i:i+1])
	}
	return pieces
}

// The plugin asks patchbayd before there is a runtime, which says of itself when it begins,
// and does with it what is left.
func TestStart(t *testing.T) {
	answered := func(a wire.Answer) []byte {
		out, err := wire.AppendAnswer(nil, a)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	yes, long := answered(wire.Answer{Out: []byte("yes")}), strings.Repeat("x", 300<<10)
	config := `{"cniVersion":"1.0.0","name":"n","type":"patchbay","ipam":{}}`
	const itself = `"code"` // of the error with which the plugin refuses what it was told
	path := plugin(t)
	for name, x := range map[string]struct {
		says    [][]byte
		stdin   string // "" for config
		want    string // in standard output
		code    int
		asked   int
		runtime bool
	}{
		"answer":           {says: [][]byte{yes}, want: "yes", asked: 1},
		"byte by byte":     {says: bytewise(append([]byte{wire.Taken}, yes...)), want: "yes", asked: 1},
		"taken, answered":  {says: [][]byte{append([]byte{wire.Taken}, yes...)}, want: "yes", asked: 1},
		"nothing to print": {says: [][]byte{answered(wire.Answer{})}, asked: 1},
		"failure":          {says: [][]byte{answered(wire.Answer{Out: []byte("no"), Failed: true})}, want: "no", code: 1, asked: 1},
		"long answer":      {says: [][]byte{answered(wire.Answer{Out: []byte(long)})}, want: long, asked: 2, runtime: true},
		"long question":    {says: [][]byte{yes}, stdin: config + strings.Repeat(" ", 100<<10), want: "yes", asked: 1, runtime: true},
		"refused":          {says: [][]byte{{wire.Refused, 0, 0, 0, 2, '{', '}'}}, want: itself, code: 1, asked: 1, runtime: true},
		"hangs up":         {want: itself, code: 1, asked: 1, runtime: true},
		"half an answer":   {says: [][]byte{yes[:6]}, want: itself, code: 1, asked: 1, runtime: true},
		"no status":        {says: [][]byte{{wire.Answered, 0, 0, 0, 0}}, want: itself, code: 1, asked: 1, runtime: true},
		"no answer":        {says: [][]byte{{9, 0, 0, 0, 1, 0}}, want: itself, code: 1, asked: 1, runtime: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			requests := patchbayd(t, dir, x.says)
			want := wire.Call{Command: "CHECK", ContainerID: "c", Netns: "/run/netns/c", Args: "A=B;C=", Stdin: []byte(config)}
			if x.stdin != "" {
				want.Stdin = []byte(x.stdin)
			}
			var out, errs bytes.Buffer
			p := exec.Command(path, "an", "argument")
			p.Env = []string{
				"CNI_COMMANDS=DEL", "CNI_COMMAND=CHECK", "CNI_CONTAINERID=c", "CNI_NETNS=/run/netns/c", "CNI_ARGS=A=B;C=",
				wire.RunDirEnv + "=" + dir, "GODEBUG=inittrace=1",
			}
			p.Stdin, p.Stdout, p.Stderr = bytes.NewReader(want.Stdin), &out, &errs
			_ = p.Run() // its code tells
			if code := p.ProcessState.ExitCode(); code != x.code {
				t.Errorf("exit code %d, want %d; %s", code, x.code, errs.String())
			}
			if got := out.String(); got != x.want && (x.want != itself || !strings.Contains(got, itself)) {
				t.Errorf("prints %.200q, want %.200q", got, x.want)
			}
			if begun := strings.Contains(errs.String(), "init runtime"); begun != x.runtime {
				t.Errorf("the runtime has begun: %v, want %v", begun, x.runtime)
			}
			if begun := strings.Contains(errs.String(), "init os "); begun != (x.want == itself) {
				t.Errorf("more of the plugin has begun than asks patchbayd: %v", begun)
			}
			here, err := wire.Here("/var/lib/patchbay", dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(requests) != x.asked {
				t.Errorf("asked %d times, want %d", len(requests), x.asked)
			}
			for range len(requests) {
				got, build, place, err := wire.ParseCall(<-requests)
				if err != nil || build != wire.Build {
					t.Errorf("build %q, %v", build, err)
				}
				if diff := cmp.Diff(want, got) + cmp.Diff(here, place); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		p := exec.Command(path)
		p.Env = []string{"CNI_COMMAND=ADD", wire.RunDirEnv + "=" + t.TempDir()}
		p.Stdin = strings.NewReader("nonsense")
		if out, err := p.Output(); err == nil || !strings.Contains(string(out), itself) {
			t.Errorf("%v, %s", err, out)
		}
	})
	t.Run("no call", func(t *testing.T) {
		p := exec.Command(path)
		p.Env = []string{}
		if out, err := p.CombinedOutput(); err != nil || !strings.Contains(string(out), "docs/cni.md") {
			t.Errorf("%v, %s", err, out)
		}
	})
	t.Run("output that does not wait", func(t *testing.T) {
		dir := t.TempDir()
		all := strings.Repeat("y", 50<<10)
		patchbayd(t, dir, [][]byte{answered(wire.Answer{Out: []byte(all)})})
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		const setPipeSize = 1031 // F_SETPIPE_SZ
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), setPipeSize, 4096); errno != 0 {
			t.Fatal(errno)
		}
		if err := syscall.SetNonblock(int(w.Fd()), true); err != nil {
			t.Fatal(err)
		}
		p := exec.Command(path)
		p.Env = []string{"CNI_COMMAND=CHECK", wire.RunDirEnv + "=" + dir}
		p.Stdout = w
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close() // the plugin has it
		var got bytes.Buffer
		_, err = got.ReadFrom(r)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
		if err != nil || got.String() != all {
			t.Errorf("%d bytes, %v", got.Len(), err)
		}
	})
}
