package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/integration/guest/boot"
)

// suite is the tests of a package that one guest runs.
type suite struct {
	pkg, dir string // import path and directory
	name     string // what its events name as their package, since two guests may have one
	binary   string
	run      string // what -test.run gets
	kernel   boot.Kernel
}

// plan turns the packages into suites: what this machine leaves to guests, or, with
// -run, what matches.
func (f *flags) plan(ctx context.Context) (suites []suite, err error) {
	c := exec.CommandContext(ctx, "go", append([]string{"list", "-f", "{{.ImportPath}}\t{{.Dir}}\t{{len .TestGoFiles}}{{len .XTestGoFiles}}"}, f.Args()...)...)
	c.Stderr = os.Stderr
	list, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	here := thisHost()
	for line := range strings.Lines(string(list)) {
		word := strings.Split(strings.TrimSpace(line), "\t")
		if word[2] == "00" {
			continue // no tests
		}
		s := suite{pkg: word[0], dir: word[1]}
		if f.run != "" {
			s.run, s.kernel, s.name = f.run, f.machine.Kernel, s.pkg
			suites = append(suites, s)
			continue
		}
		found, err := findNeedy(s.dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.pkg, err)
		}
		suites = append(suites, s.shared(found, here)...)
	}
	// The largest first: what is left at the end, when a place stays empty, is small.
	slices.SortStableFunc(suites, func(a, b suite) int { return strings.Count(b.run, "|") - strings.Count(a.run, "|") })
	return suites, nil
}

// shared divides what this machine leaves of the tests among as many guests of each
// kernel as run at once.
func (s suite) shared(found []needy, here *host) (suites []suite) {
	left := make(map[boot.Kernel][]string)
	for _, n := range found {
		if here.leaves(n) {
			left[n.kernel()] = append(left[n.kernel()], n.name)
		}
	}
	for _, k := range []boot.Kernel{boot.QEMU, boot.UML} {
		parts := make([][]string, min(atOnce, len(left[k])))
		for i, name := range left[k] {
			parts[i%len(parts)] = append(parts[i%len(parts)], name)
		}
		for i, names := range parts {
			part := s
			part.name = fmt.Sprintf("%s-%d/%s", k, i+1, s.pkg)
			part.kernel, part.run = k, "^("+strings.Join(names, "|")+")$"
			suites = append(suites, part)
		}
	}
	return suites
}

// build builds the test binaries of all suites below a directory.
func build(ctx context.Context, suites []suite, below string) error {
	for i, s := range suites {
		suites[i].binary = filepath.Join(below, strings.ReplaceAll(s.pkg, "/", "_")+".test")
		if _, err := os.Stat(suites[i].binary); err == nil {
			continue // another suite is of the same package
		}
		c := exec.CommandContext(ctx, "go", "test", "-c", "-o", suites[i].binary, s.pkg)
		c.Env = append(os.Environ(), "CGO_ENABLED=0") // the guest may have another libc
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("build the tests of %s: %w", s.pkg, err)
		}
	}
	return nil
}
