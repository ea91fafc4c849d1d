package store

import (
	"os"
	"strings"
	"syscall"
)

// bootIDPath is the kernel's random name of this boot.
const bootIDPath = "/proc/sys/kernel/random/boot_id"

func readBootID() (string, error) {
	id, err := readLine(bootIDPath)
	if err != nil {
		return "", unavailable(bootIDPath, err)
	}
	return id, nil
}

// readMachineID is the machine id as systemd or D-Bus wrote it, else the host's
// name: any text that tells this host from its neighbours.
func readMachineID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if id, err := readLine(path); err == nil && id != "" {
			return id
		}
	}
	name, _ := os.Hostname() // without a name all such hosts share a range, as good as any
	return name
}

// readLine reads a file of one short line. Package os would start the network
// poller for it, eight system calls that a plugin can do without.
func readLine(path string) (string, error) {
	fd, err := openFD(path, syscall.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer func() { _ = syscall.Close(fd) }()
	var line [256]byte
	n, err := syscall.Read(fd, line[:])
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(line[:n])), nil
}
