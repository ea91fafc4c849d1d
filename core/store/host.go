package store

import (
	"os"
	"strings"
)

// bootIDPath is the kernel's random name of this boot.
const bootIDPath = "/proc/sys/kernel/random/boot_id"

func readBootID() (string, error) {
	id, err := os.ReadFile(bootIDPath)
	if err != nil {
		return "", unavailable(bootIDPath, err)
	}
	return strings.TrimSpace(string(id)), nil
}

// readMachineID is the machine id as systemd or D-Bus wrote it, else the host's
// name: any text that tells this host from its neighbours.
func readMachineID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if id, err := os.ReadFile(path); err == nil && len(strings.TrimSpace(string(id))) > 0 {
			return strings.TrimSpace(string(id))
		}
	}
	name, _ := os.Hostname() // without a name all such hosts share a range, as good as any
	return name
}
