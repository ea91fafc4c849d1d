package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Wakeups is how often the daemon's threads have gone to sleep so far, and so how
// often they have woken up.
func (d *Patchbayd) Wakeups() (int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", d.Process.Pid))
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, path := range tasks {
		n, err := statusField(path, "voluntary_ctxt_switches")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// ResidentMB is the memory that the daemon has in use.
func (d *Patchbayd) ResidentMB() (float64, error) {
	kb, err := statusField(fmt.Sprintf("/proc/%d/status", d.Process.Pid), "VmRSS")
	return float64(kb) / 1000, err
}

func statusField(path, name string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			return strconv.Atoi(strings.Fields(value)[0])
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
