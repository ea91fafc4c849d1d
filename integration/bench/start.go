package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// startup compares the plugin's VERSION with a program that does nothing.
type startup struct {
	many           crowd   // besides
	still          rest    // besides
	collected      float64 // s, besides
	sizeMB         float64
	version, empty float64 // ms
}

const emptyProgram = "package main\n\nfunc main() {}\n"

// measureStart compares what is installed below root.
func measureStart(root string) (startup, error) {
	plugin := filepath.Join(root, "bin/cni/patchbay")
	info, err := os.Stat(plugin)
	if err != nil {
		return startup{}, err
	}
	empty, linked, source := filepath.Join(root, "empty"), filepath.Join(root, "linked"), filepath.Join(root, "empty.go")
	if err := os.WriteFile(source, []byte(emptyProgram), 0o600); err != nil {
		return startup{}, err
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return startup{}, fmt.Errorf("build an empty program: %w: %s", err, out)
	}
	if err := installFile(linked, empty); err != nil {
		return startup{}, err
	}
	const times = 200
	samples := map[string][]float64{}
	for range times {
		for _, program := range []string{plugin, empty} {
			c := exec.Command(program)
			c.Env = []string{"CNI_COMMAND=VERSION"}
			start := time.Now()
			if out, err := c.CombinedOutput(); err != nil {
				return startup{}, fmt.Errorf("%s: %w: %s", program, err, out)
			}
			samples[program] = append(samples[program], milliseconds(time.Since(start)))
		}
	}
	return startup{sizeMB: float64(info.Size()) / 1e6, version: percentile(samples[plugin], 50), empty: percentile(samples[empty], 50)}, nil
}

// percentile p of samples, by nearest rank; 0 of none.
func percentile(samples []float64, p int) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	return s[min(len(s)*p/100, len(s)-1)]
}
