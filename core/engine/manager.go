package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
)

// manager is a program that configures a NIC, and will not know that the host has moved.
type manager struct {
	name string
	// active ones put back what they miss, or renew it where it is not any more.
	active bool
	todo   string // an imperative
}

// managers finds out who configures a NIC, by the files that they leave below root.
func managers(root string, nic kernel.Netdev, port string) (all []manager) {
	if !sameNetns(root, "1") {
		return dhcpClients(root, nic.Name, port) // those of the machine manage another namespace
	}
	index := strconv.Itoa(nic.Index)
	if b, err := os.ReadFile(filepath.Join(root, "run/NetworkManager/devices", index)); err == nil && hasLine(b, "managed", "true", "full") {
		all = append(all, manager{"NetworkManager", true, fmt.Sprintf(
			"write [keyfile] and unmanaged-devices=interface-name:%s;interface-name:pb* to /etc/NetworkManager/conf.d/90-patchbay.conf and run `nmcli general reload`", nic.Name)})
	}
	if b, err := os.ReadFile(filepath.Join(root, "run/systemd/netif/links", index)); err == nil && hasLine(b, "ADMIN_STATE", "configured", "configuring", "pending", "initialized") {
		all = append(all, manager{"systemd-networkd", true, fmt.Sprintf(
			"write [Match] Name=%s and [Link] Unmanaged=yes to /etc/systemd/network/05-patchbay.network and run `networkctl reload`", nic.Name)})
	}
	if file := ifupdown(root, nic.Name); file != "" {
		all = append(all, manager{"ifupdown", false, fmt.Sprintf(
			"it configures %s at boot (%s), so add the switch again after a reboot, and do not run `ifdown %s` while the switch has it", nic.Name, file, nic.Name)})
	}
	return append(all, dhcpClients(root, nic.Name, port)...)
}

// hasLine reports whether a file of KEY=VALUE has one of the values.
func hasLine(b []byte, key string, values ...string) bool {
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		if k == key && slices.Contains(values, v) {
			return true
		}
	}
	return false
}

// ifupdown returns the file that configures a NIC, or "".
func ifupdown(root, nic string) string {
	files, _ := filepath.Glob(filepath.Join(root, "etc/network/interfaces.d/*"))
	for _, file := range append([]string{filepath.Join(root, "etc/network/interfaces")}, files...) {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) >= 4 && f[0] == "iface" && f[1] == nic && f[3] != "manual" {
				return "/" + strings.TrimPrefix(strings.TrimPrefix(file, root), "/")
			}
		}
	}
	return ""
}

// dhcpClients finds processes that renew a lease on a NIC.
func dhcpClients(root, nic, port string) (all []manager) {
	processes, _ := filepath.Glob(filepath.Join(root, "proc/[0-9]*/cmdline"))
	for _, file := range processes {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		words := strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
		program, _, _ := strings.Cut(filepath.Base(words[0]), ":") // dhcpcd writes "dhcpcd: eth0 [ip4]"
		if !slices.Contains([]string{"dhclient", "dhcpcd", "udhcpc", "dhcp6c"}, program) {
			continue
		}
		if words = strings.Fields(strings.Join(words, " ")); !slices.Contains(words, nic) {
			continue
		}
		pid := filepath.Base(filepath.Dir(file))
		if !sameNetns(root, pid) {
			continue
		}
		all = append(all, manager{fmt.Sprintf("%s (process %s)", program, pid), true, fmt.Sprintf(
			"end it with `kill %s` and, once the switch is there, run it on %s", pid, port)})
	}
	return all
}

// sameNetns reports whether a process lives in our network namespace. Where nobody can
// tell it counts as one that does.
func sameNetns(root, pid string) bool {
	theirs, err := os.Readlink(filepath.Join(root, "proc", pid, "ns/net"))
	if err != nil {
		return true
	}
	ours, err := os.Readlink("/proc/thread-self/ns/net")
	return err != nil || ours == theirs
}
