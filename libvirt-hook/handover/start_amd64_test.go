package handover_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
)

// installed is a directory of hooks, with the hook built to begin with start.
func installed(t *testing.T) (hooks string) {
	t.Helper()
	hooks = t.TempDir()
	path := filepath.Join(hooks, "patchbay-libvirt-hook")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "-ldflags", "-E _patchbay_start", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, driver := range []string{call.Network, call.QEMU} {
		dir := filepath.Join(hooks, driver+".d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, "50-patchbay")); err != nil {
			t.Fatal(err)
		}
	}
	return hooks
}

// patchbayd gives each client the same answer, and hands on what was asked.
func patchbayd(t *testing.T, dir string, says []byte) (requests <-chan []byte) {
	t.Helper()
	l, err := net.Listen("unix", wire.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	came, done := make(chan []byte, 8), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			body, _ := wire.ReadFrame(c, wire.MaxRequest) // what it lacks is missed below
			came <- body
			_, _ = c.Write(says) // the hook may be gone
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return came
}

func answered(t *testing.T, a wire.Answer) []byte {
	t.Helper()
	out, err := wire.AppendAnswer(nil, a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The hook asks patchbayd before there is a runtime, which says of itself when it begins, and
// ends there too where there is nothing to do.
func TestStart(t *testing.T) {
	const ours = "<network><name>prod</name><bridge name='pb-prod'/></network>"
	const plugged = "<domain><source network='prod' bridge='pb-prod'/></domain>"
	const foreign = "<network><name>prod</name><bridge name='br0'/></network>"
	yes, no := answered(t, wire.Answer{}), answered(t, wire.Answer{Out: []byte("no such switch"), Failed: true})
	refusal := "patchbay: network prod, port-created: no such switch\n"
	hooks := installed(t)
	for name, x := range map[string]struct {
		driver  string // "" for network
		args    string // "" for those of port-created
		stdin   string // "" for ours
		unnoted bool   // no note of the network is there
		says    []byte // nil for yes
		want    string // what virsh shows
		asked   int
		runtime bool
	}{
		"a port":             {asked: 1},
		"as it was called":   {args: "prod plugged begin -", asked: 1},
		"taken, done":        {says: append([]byte{wire.Taken}, yes...), asked: 1},
		"refused":            {says: no, want: refusal, asked: 1, runtime: true},
		"gone, whatever":     {args: "prod port-deleted begin -", says: no, asked: 1},
		"a domain":           {driver: call.QEMU, args: "vm1 start begin -", stdin: plugged, asked: 1},
		"a domain goes":      {driver: call.QEMU, args: "vm1 release end destroyed", stdin: plugged, asked: 1},
		"nothing prepared":   {driver: call.QEMU, args: "vm1 prepare begin -", stdin: plugged},
		"no such operation":  {driver: call.QEMU, args: "vm1 started begin -", stdin: plugged},
		"another network":    {stdin: foreign, runtime: true},
		"a note to be made":  {unnoted: true, asked: 1, runtime: true},
		"by its note":        {driver: call.QEMU, args: "vm1 release end destroyed", stdin: "<source network='prod'/>", asked: 1, runtime: true},
		"a name with slash":  {args: "a/b port-created begin -", asked: 1, runtime: true},
		"more than is usual": {stdin: ours + strings.Repeat(" ", 100<<10), asked: 1, runtime: true},
	} {
		t.Run(name, func(t *testing.T) {
			run := t.TempDir()
			if x.says == nil {
				x.says = yes
			}
			requests := patchbayd(t, run, x.says)
			if !x.unnoted {
				if err := os.Mkdir(filepath.Join(run, "libvirt"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(run, "libvirt", "prod"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			driver, args, stdin := call.Network, "prod port-created begin -", ours
			if x.driver != "" {
				driver = x.driver
			}
			if x.args != "" {
				args = x.args
			}
			if x.stdin != "" {
				stdin = x.stdin
			}
			p := exec.Command(filepath.Join(hooks, driver+".d", "50-patchbay"), strings.Fields(args)...)
			want, is := call.Parse(p.Args)
			if !is {
				t.Fatal("not a call")
			}
			want.Stdin = []byte(stdin)
			var out, errs bytes.Buffer
			p.Env = []string{wire.RunDirEnv + "=" + run, "GODEBUG=inittrace=1"}
			p.Stdin, p.Stdout, p.Stderr = strings.NewReader(stdin), &out, &errs
			_ = p.Run() // its code tells
			said := errs.String()
			if begun := strings.Contains(said, "init runtime"); begun != x.runtime {
				t.Errorf("the runtime has begun: %v, want %v", begun, x.runtime)
			}
			if strings.Contains(said, "init os/") {
				t.Errorf("more has begun: %s", said)
			}
			if failed := p.ProcessState.ExitCode() != 0; failed != (x.want != "") || !strings.HasSuffix(said, x.want) || out.Len() > 0 {
				t.Errorf("failed %v, %s%s", failed, out.String(), said)
			}
			if len(requests) != x.asked {
				t.Fatalf("asked %d times, want %d", len(requests), x.asked)
			}
			for range x.asked {
				got, build, _, err := wire.ParseHookCall(<-requests)
				if diff := cmp.Diff(want, got); err != nil || build != wire.Build || diff != "" {
					t.Errorf("build %q, %v (-want +got):\n%s", build, err, diff)
				}
			}
		})
	}
}
