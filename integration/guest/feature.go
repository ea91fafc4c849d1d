package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Feature is a part of the kernel that is not everywhere, by its configuration symbol.
type Feature string

// The features that tests ask for.
const (
	VLANs    Feature = "CONFIG_BRIDGE_VLAN_FILTERING"
	Bonding  Feature = "CONFIG_BONDING"
	VLANDevs Feature = "CONFIG_VLAN_8021Q"
	TUN      Feature = "CONFIG_TUN"
	TBF      Feature = "CONFIG_NET_SCH_TBF"
	HTB      Feature = "CONFIG_NET_SCH_HTB and CONFIG_NET_CLS_U32"
	// IFB is by what limits hold back what comes from guests.
	IFB Feature = "CONFIG_IFB and CONFIG_NET_ACT_MIRRED"
	// Bridged is that the IP firewall may see bridged frames.
	Bridged Feature = "CONFIG_BRIDGE_NETFILTER"
	// NAT is that of nftables in family inet, which user-mode-linux has not.
	NAT Feature = "CONFIG_NFT_NAT"
	// Netdev is nftables' family netdev, which user-mode-linux has not.
	Netdev Feature = "CONFIG_NF_TABLES_NETDEV"
	// Linux61 and Linux612 are kernels of distributions, on which what this machine can do
	// as well is tried once more.
	Linux61  Feature = "Linux 6.1"
	Linux612 Feature = "Linux 6.12"
	// NICs are four cards, joined in pairs, whose cables can be cut: see SetLink.
	NICs Feature = "CONFIG_IGB"
	// Netdevsim is a driver of NICs that exist in memory only, here with steering of frames
	// to queues besides what it is published with: see boot/netdevsim.
	Netdevsim Feature = "CONFIG_NETDEVSIM"
)

// Named is the feature of a constant above, by the constant's name.
func Named(constant string) (Feature, error) {
	switch constant {
	case "VLANs":
		return VLANs, nil
	case "Bonding":
		return Bonding, nil
	case "VLANDevs":
		return VLANDevs, nil
	case "TUN":
		return TUN, nil
	case "TBF":
		return TBF, nil
	case "HTB":
		return HTB, nil
	case "IFB":
		return IFB, nil
	case "Bridged":
		return Bridged, nil
	case "NAT":
		return NAT, nil
	case "Netdev":
		return Netdev, nil
	case "NICs":
		return NICs, nil
	case "Netdevsim":
		return Netdevsim, nil
	case "Linux61":
		return Linux61, nil
	case "Linux612":
		return Linux612, nil
	}
	return "", fmt.Errorf("no feature guest.%s", constant)
}

// InUML reports whether Debian's user-mode-linux has the feature.
func (f Feature) InUML() bool {
	return f != NAT && f != Netdev && f != NICs && f != Netdevsim && f != Linux612
}

// Missing tells what the running kernel lacks of a feature, nil for nothing. It tries
// the feature out in a network namespace that is gone afterwards, as root.
func (f Feature) Missing() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		done <- func() error {
			switch f {
			case NICs:
				return cardsThere()
			case Netdevsim:
				return netdevsimThere()
			case Linux61, Linux612:
				return f.running()
			}
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			return f.tryOut(h)
		}()
	}()
	return <-done
}

func (f Feature) tryOut(h *netlink.Handle) error {
	probe := netlink.LinkAttrs{Name: "probe"}
	switch f {
	case VLANs:
		b := &netlink.Bridge{LinkAttrs: probe}
		if err := h.LinkAdd(b); err != nil {
			return err
		}
		return h.BridgeVlanAdd(b, 7, false, false, true, false)
	case Bonding:
		return h.LinkAdd(netlink.NewLinkBond(probe))
	case VLANDevs:
		b := &netlink.Bridge{LinkAttrs: probe} // lo takes none
		if err := h.LinkAdd(b); err != nil {
			return err
		}
		return h.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "probe.7", ParentIndex: b.Index}, VlanId: 7})
	case TUN:
		return command("ip", "tuntap", "add", "dev", "probe", "mode", "tap")
	case TBF:
		return command("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit", "burst", "10k", "latency", "1ms")
	case HTB:
		return command("sh", "-ec", "tc qdisc add dev lo root handle 1: htb; tc filter add dev lo parent 1: protocol all pref 1 handle 1: u32 divisor 256")
	case IFB:
		return command("sh", "-ec", "ip link add probe type ifb; tc qdisc add dev lo clsact; tc filter add dev lo ingress u32 match u32 0 0 action mirred egress redirect dev probe")
	case Bridged:
		_ = exec.Command("modprobe", "br_netfilter").Run() // what is built in needs none
		_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
		return err
	case NAT:
		return command("nft", "add table inet probe; add chain inet probe out { type nat hook postrouting priority srcnat; }; add rule inet probe out masquerade")
	case Netdev:
		return command("nft", "add table netdev probe; add chain netdev probe in { type filter hook ingress device lo priority 0; }")
	case NICs, Netdevsim, Linux61, Linux612:
	}
	return errors.New("no such feature")
}

// running fails unless the kernel is that version of Linux.
func (f Feature) running() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	release := unix.ByteSliceToString(u.Release[:])
	if version, _ := strings.CutPrefix(string(f), "Linux "); !strings.HasPrefix(release, version+".") {
		return fmt.Errorf("this is %s", release)
	}
	return nil
}

func cardsThere() error {
	if os.Getenv(Env) != "qemu" {
		return errors.New("only guests under qemu have them")
	}
	_, err := os.Stat("/sys/class/net/n3")
	return err
}

func netdevsimThere() error {
	if os.Getenv(Env) != "qemu" {
		return errors.New("only guests under qemu have the one that steers frames")
	}
	return command("modprobe", "netdevsim")
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
