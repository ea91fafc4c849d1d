package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/guest/boot"
)

// runner builds the program: process 1 of a guest must be static.
func runner(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "guest")
	c := exec.Command("go", "build", "-o", name, ".")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, k := range []boot.Kernel{boot.UML, boot.QEMU} {
		if _, _, err := boot.Setup(t.Context(), k, os.Stderr); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// result is what came of a run.
type result struct {
	status   int
	out, err string
}

func run(ctx context.Context, program string, args ...string) result {
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, program, args...)
	c.Stdout, c.Stderr = &out, &errs
	status := 0
	if err := c.Run(); err != nil {
		status = -1
		if x := new(exec.ExitError); errors.As(err, &x) {
			status = x.ExitCode()
		}
	}
	return result{status, out.String(), errs.String()}
}

// TestRun boots two guests at a time and looks at what comes back of each.
func TestRun(t *testing.T) {
	program := runner(t)
	numbers := run(t.Context(), "seq", "100000").out
	tests := []struct {
		name, args string
		status     int
		out, err   string // exactly, and among others
	}{
		{"status", "exec|bash|-c|echo out; echo err >&2; exit 7", 7, "out\nerr\n", ""},
		{"signal", "exec|bash|-c|kill -9 $$", 137, "", ""},
		{"output", "exec|seq|100000", 0, numbers, ""},
		{"no such program", "exec|nothing", 127, "", ""},
		{"limit", "exec|-limit|30s|bash|-c|echo before; read </dev/zero", infrastructure, "before\n", "not done after 30s"},
		{"crash", "exec|bash|-c|echo before; sync; echo c > /proc/sysrq-trigger", infrastructure, "before\n", "panic"},
		{"qemu", "exec|-kernel|qemu|bash|-c|echo out; exit 7", 7, "out\n", ""},
		{"qemu crash", "exec|-kernel|qemu|bash|-c|echo before; echo c > /proc/sysrq-trigger", infrastructure, "before\n", "panic"},
		{"own root", "exec|bash|-c|echo > /etc/motd; rm /usr/bin/seq; ls /etc/motd", 0, "/etc/motd\n", ""},
		{"no kernel", "exec|-kernel|bsd|true", infrastructure, "", "uml or qemu"},
		{"no terminal", "exec", infrastructure, "", "no terminal"},
	}
	places := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for _, tt := range tests {
		wait.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			got := run(t.Context(), program, strings.Split(tt.args, "|")...)
			if tt.name == "no such program" {
				got.out = ""
			}
			if got.status != tt.status || got.out != tt.out || !strings.Contains(got.err, tt.err) {
				t.Errorf("%s: status %d, want %d; %s\nstderr, which should have %q: %s", tt.name, got.status, tt.status, cmp.Diff(tt.out, got.out), tt.err, got.err)
			}
		})
	}
	wait.Wait()
}

// TestRunTests: what goes wrong in a guest is told with the name of the test.
func TestRunTests(t *testing.T) {
	program := runner(t)
	tests := []struct {
		name   string
		status int
		events []string
		err    string
	}{
		{"TestPasses", 0, []string{`"Action":"pass","Package":"github.com/patchbay-net/patchbay/integration/guest/run/testdata/trouble","Test":"TestPasses"`}, ""},
		{"TestFails", 1, []string{`"Test":"TestFails"`, "as it should not", `"Action":"fail"`}, ""},
		{"TestHangs", 2, []string{"test timed out after", "TestHangs (", `"Action":"fail"`}, ""},
		{"TestExits", 7, []string{"the last words", `"Action":"fail"`}, ""},
		{"TestCrashes", infrastructure, []string{"the last words", `"Action":"run"`, `"Test":"TestCrashes"`, `"Action":"fail"`}, "panic"},
	}
	places := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for _, tt := range tests {
		wait.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			got := run(t.Context(), program, "test", "-limit", "10s", "-run", "^"+tt.name+"$", "./testdata/trouble")
			for _, want := range tt.events {
				if !strings.Contains(got.out, want) {
					t.Errorf("%s: no %s in\n%s", tt.name, want, got.out)
				}
			}
			if got.status != tt.status || !strings.Contains(got.err, tt.err) {
				t.Errorf("%s: status %d, want %d; %s", tt.name, got.status, tt.status, got.err)
			}
		})
	}
	wait.Wait()
}

// TestKilled: nothing of a guest outlives who booted it, killed or asked to end.
func TestKilled(t *testing.T) {
	program := runner(t)
	for _, args := range []string{"exec|bash|-c|echo up; read </dev/zero", "exec|-kernel|qemu|bash|-c|echo up; read </dev/zero"} {
		for _, signal := range []os.Signal{os.Kill, os.Interrupt} {
			tmp := t.TempDir()
			c := exec.Command(program, strings.Split(args, "|")...)
			c.Env = append(os.Environ(), "TMPDIR="+tmp)
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			// The keeper has it too: its end is the keeper's.
			errs, err := c.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, errs)
			_ = c.Wait() // killed
			if err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("%s, %v: left behind: %v, %v", args, signal, left, err)
			}
			if left := processesOf(t, tmp); len(left) > 0 {
				t.Errorf("%s, %v: still running: %v", args, signal, left)
			}
		}
	}
}

// processesOf are the processes that have a word in their command line.
func processesOf(t *testing.T, word string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err == nil && bytes.Contains(text, []byte(word)) { // it may have ended
			found = append(found, name+" "+string(text))
		}
	}
	return found
}

// TestFindNeedy: the tests that call guest.Needs are found with what they need.
func TestFindNeedy(t *testing.T) {
	dir := t.TempDir()
	const source = `package p
func TestPlain(t *testing.T) {}
func TestOne(t *testing.T) { guest.Needs(t, guest.VLANs) }
func TestSub(t *testing.T) { t.Run("x", func(t *testing.T) { guest.Needs(t, guest.Bonding, guest.NICs) }) }
func helper(t *testing.T) { guest.Needs(t, guest.VLANs) }
func BenchmarkOne(b *testing.B) { guest.Needs(b, guest.VLANs) }
`
	file := filepath.Join(dir, "p_test.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := findNeedy(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []needy{{"TestOne", []guest.Feature{guest.VLANs}}, {"TestSub", []guest.Feature{guest.Bonding, guest.NICs}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(needy{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got[0].kernel() != boot.UML || got[1].kernel() != boot.QEMU {
		t.Errorf("kernels %s, %s", got[0].kernel(), got[1].kernel())
	}
	if err := os.WriteFile(file, []byte("package p\nfunc TestNone(t *testing.T) { guest.Needs(t, guest.Nothing) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := findNeedy(dir); err == nil {
		t.Error("a feature that is none is found")
	}
}
