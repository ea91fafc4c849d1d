package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Patchbayd is a daemon of ours that runs on a host.
type Patchbayd struct {
	*exec.Cmd

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed when a line comes, or the last one has
	ended bool
}

// Patchbayd starts the program bin (below bin/), which arguments may follow, as the host's
// daemon and returns when it is ready.
func (h *Host) Patchbayd(bin string, env ...string) (*Patchbayd, error) {
	argv := strings.Fields(bin)
	d := &Patchbayd{Cmd: exec.Command(filepath.Join(h.Root, "bin", argv[0]), argv[1:]...), more: make(chan struct{})}
	d.Env = append(append(os.Environ(), h.Env()...), env...)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go d.read(r)
	d.Stderr = w
	err = StartNotifying(h.Netns, d.Cmd)
	_ = w.Close() // the daemon has it
	if err != nil {
		if d.Process != nil {
			err = errors.Join(err, d.Process.Kill(), d.Wait())
		}
		return nil, fmt.Errorf("%w\n%s", err, d.Log())
	}
	return d, nil
}

func (d *Patchbayd) read(r io.ReadCloser) {
	defer func() { _ = r.Close() }() // read only
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		d.add(func() { d.lines = append(d.lines, lines.Text()) })
	}
	d.add(func() { d.ended = true })
}

func (d *Patchbayd) add(what func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	what()
	close(d.more)
	d.more = make(chan struct{})
}

// Log is what the daemon has logged so far.
func (d *Patchbayd) Log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

// Lines is how many lines the daemon has logged so far.
func (d *Patchbayd) Lines() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.lines)
}

// More is closed when the next line comes, or the last one has.
func (d *Patchbayd) More() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.more
}

// ErrEnded is that of a daemon whose log is over.
var ErrEnded = errors.New("patchbayd ended")

// Await waits until the daemon logs a line, after the first n, that has all words,
// and returns it. It fails with ErrEnded when no more lines can come.
func (d *Patchbayd) Await(n int, patience time.Duration, words ...string) (string, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		d.mu.Lock()
		lines, more, ended := d.lines[n:], d.more, d.ended
		d.mu.Unlock()
		for _, line := range lines {
			if hasAll(line, words) {
				return line, nil
			}
		}
		if ended {
			return "", fmt.Errorf("%w without a line with %q:\n%s", ErrEnded, words, d.Log())
		}
		select {
		case <-more:
		case <-deadline.C:
			return "", fmt.Errorf("patchbayd logs no line with %q:\n%s", words, d.Log())
		}
	}
}

func hasAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// Stop ends the daemon as a service manager does.
func (d *Patchbayd) Stop() error {
	if err := d.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return d.Wait()
}

// Kill ends it as kill -9 does.
func (d *Patchbayd) Kill() error {
	if err := d.Process.Kill(); err != nil {
		return err
	}
	return d.Dead()
}

// Dead waits for the end of a daemon that is killed, or kills itself.
func (d *Patchbayd) Dead() error {
	var exit *exec.ExitError
	if err := d.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}
