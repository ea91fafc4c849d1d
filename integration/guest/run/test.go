package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest/boot"
)

// atOnce is how many guests run at the same time. Each has 1 GB of memory, of which it
// takes what it uses, and one CPU.
const atOnce = 2

// test runs tests of packages in guests and prints what `go test -json` would: those
// that call guest.Needs for what this machine's kernel lacks or, with -run, all that
// match.
func (f *flags) test(ctx context.Context) (int, error) {
	suites, err := f.plan(ctx)
	if err != nil {
		return 0, err
	}
	if len(suites) == 0 {
		_, _ = fmt.Fprintln(os.Stderr, "guest: this machine's kernel can run all tests of these packages") // only talk
		return 0, nil
	}
	// What guests need is made before the first one boots: a limit is for tests.
	for _, s := range suites {
		if _, _, err := boot.Setup(ctx, s.kernel, os.Stderr); err != nil {
			return 0, err
		}
	}
	bin := filepath.Join(f.root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return 0, err
	}
	binaries, err := os.MkdirTemp(bin, "guest-tests-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(binaries) }() // below bin, which `make clean` removes
	if err := build(ctx, suites, binaries); err != nil {
		return 0, err
	}
	if err := download(ctx, suites); err != nil {
		return 0, err
	}
	return f.runAll(ctx, suites)
}

// download has what tests download be there before the first guest boots, which has no
// network: the TestMain of each package runs, and none of its tests.
func download(ctx context.Context, suites []suite) error {
	done := make(map[string]bool)
	for _, s := range suites {
		if done[s.binary] {
			continue
		}
		done[s.binary] = true
		c := exec.CommandContext(ctx, s.binary, "-test.run=^$")
		c.Dir = s.dir
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("what the tests of %s need: %w\n%s", s.pkg, err, out)
		}
	}
	return nil
}

// runAll runs suites, some guests at a time, and returns the worst status.
func (f *flags) runAll(ctx context.Context, suites []suite) (int, error) {
	var (
		wait   sync.WaitGroup
		mu     sync.Mutex
		worst  int
		failed error
		places = make(chan struct{}, atOnce)
		out    = &lines{to: os.Stdout}
	)
	for _, s := range suites {
		places <- struct{}{}
		wait.Go(func() {
			status, err := f.runOne(ctx, s, out)
			<-places
			mu.Lock()
			defer mu.Unlock()
			worst = max(worst, status)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
			}
		})
	}
	wait.Wait()
	return worst, failed
}

// bootPatience is what a guest may take beside its tests, on a busy machine.
const bootPatience = 3 * time.Minute

// runOne boots the guest of a suite. What its tests print goes through test2json.
func (f *flags) runOne(ctx context.Context, s suite, out io.Writer) (int, error) {
	m := f.machine
	m.Kernel = s.kernel
	_, _ = fmt.Fprintf(os.Stderr, "guest: %s in %s: %s\n", s.pkg, s.kernel, s.run) // only talk
	convert := exec.Command("go", "tool", "test2json", "-t", "-p", s.name)         // ends with its input
	convert.Stderr = os.Stderr
	in, err := convert.StdinPipe()
	if err != nil {
		return 0, err
	}
	events, err := convert.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := convert.Start(); err != nil {
		return 0, err
	}
	e := &ending{pkg: s.name, out: out}
	copied := make(chan error, 1)
	go func() { copied <- e.copy(events) }()
	status, err := m.Run(ctx, boot.Job{
		Argv: []string{s.binary, "-test.v=test2json", "-test.run=" + s.run, "-test.timeout=" + f.limit.String()},
		Dir:  s.dir, Source: f.root, Limit: f.limit + bootPatience, NICs: f.nics, Nested: f.nested,
	}, in)
	wrong := errors.Join(in.Close(), <-copied, convert.Wait())
	if status != 0 || err != nil {
		wrong = errors.Join(wrong, e.fail(err))
	}
	return status, errors.Join(err, wrong)
}
