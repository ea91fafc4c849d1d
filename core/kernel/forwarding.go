package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The switches of IP forwarding. What lies under /proc/sys/net belongs to the
// network namespace of the thread that opens it.
const (
	sysctlForwardIPv4 = "/proc/sys/net/ipv4/ip_forward"
	sysctlForwardIPv6 = "/proc/sys/net/ipv6/conf/all/forwarding"
)

// setForwarding switches forwarding on for the families, in the namespace of the
// calling thread; it never switches any off. A kernel without IPv6 that is asked
// for it fails with vswitch.CapabilityMissing.
func setForwarding(families plan.Families) error {
	if families.IPv4 {
		if err := setSysctl(sysctlForwardIPv4, "1"); err != nil {
			return err
		}
	}
	if !families.IPv6 {
		return nil
	}
	now, err := sysctl(sysctlForwardIPv6)
	if errors.Is(err, fs.ErrNotExist) {
		return &vswitch.Error{
			Kind: vswitch.CapabilityMissing, Object: "IPv6 forwarding", Err: errors.New("this kernel has no IPv6 (CONFIG_IPV6, ipv6.disable)"),
			Hint: "enable IPv6 or leave IPv6 masquerade off",
		}
	}
	if err != nil || now != "0" {
		return err
	}
	if err := keepRouterAdvertisements(); err != nil {
		return err
	}
	return setSysctl(sysctlForwardIPv6, "1")
}

// observeForwarding tells which families are forwarded in the namespace of the
// calling thread.
func observeForwarding() (plan.Families, error) {
	v4, err := sysctl(sysctlForwardIPv4)
	if err != nil {
		return plan.Families{}, err
	}
	v6, err := sysctl(sysctlForwardIPv6)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return plan.Families{}, err
	}
	return plan.Families{IPv4: v4 != "0", IPv6: v6 != "" && v6 != "0"}, nil
}

// keepRouterAdvertisements lets netdevs that listen to router advertisements go
// on once the host forwards: by default (accept_ra 1) a forwarding host ignores
// them and, when the routes that it has run out, is off the IPv6 network. Ours
// are left alone, and so is any bridge's port: a guest is not the host's router.
func keepRouterAdvertisements() error {
	links, err := linksHere()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.master != 0 || l.loopback() || strings.HasPrefix(l.alias, vswitch.AliasPrefix) || strings.Contains(l.name, "/") {
			continue
		}
		path := "/proc/sys/net/ipv6/conf/" + l.name + "/accept_ra"
		switch now, err := sysctl(path); {
		case errors.Is(err, fs.ErrNotExist): // gone meanwhile, or without IPv6: its MTU is too small
		case err != nil:
			return err
		case now == "1":
			if err := setSysctl(path, "2"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// sysctl reads one value.
func sysctl(path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(bytes.TrimSpace(b)), err
}

// setSysctl writes a value unless it is there already: a write to forwarding
// walks every netdev, and /proc/sys may be read-only and right.
func setSysctl(path, value string) error {
	now, err := sysctl(path)
	if err != nil || now == value {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(value); err != nil {
		_ = f.Close()
		return fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return f.Close()
}
