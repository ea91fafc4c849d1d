package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// VF is a virtual function as its NIC holds it, whoever has it.
type VF struct {
	PF    string      `json:"pf"` // the NIC's netdev
	Index int         `json:"index"`
	MAC   vswitch.MAC `json:"mac"` // the administrative one; zero for none
}

// VF finds the NIC of the VF at a PCI address.
func (l *Linux) VF(ctx context.Context, addr string) (vf VF, err error) {
	if err := ctx.Err(); err != nil {
		return vf, err
	}
	err = l.host(func(c *rtnl) (err error) {
		if vf, err = findVF(c, "/sys", addr); err == nil {
			vf.MAC, err = readVFMAC(c, vf)
		}
		return err
	})
	return vf, err
}

// isPCIAddress reports whether it can be the name of a PCI function in sysfs, and leads nowhere
// else. A regular expression would be linked into the plugin, too.
func isPCIAddress(addr string) bool {
	return filepath.Base(addr) == addr && strings.Count(addr, ":") == 2 && len(addr) <= len("00000000:00:00.0")
}

// findVF finds by the files below sys which VF of which netdev it is. /sys shows the netdevs of
// the namespace that it was mounted in, so the number has to agree with that of the netdev here.
func findVF(c *rtnl, sys, addr string) (vf VF, err error) {
	lacks := func(format string, args ...any) error {
		return &vswitch.Error{Kind: vswitch.CapabilityMissing, Object: fmt.Sprintf("PCI device %.40q", addr), Err: fmt.Errorf(format, args...)}
	}
	device := filepath.Join(sys, "bus/pci/devices", addr)
	if _, err := os.Stat(device); !isPCIAddress(addr) || err != nil {
		return vf, &vswitch.Error{Kind: vswitch.NotFound, Object: fmt.Sprintf("PCI device %.40q", addr), Hint: "list the host's PCI devices with: lspci -D"}
	}
	if _, err := os.Stat(filepath.Join(device, "physfn")); err != nil {
		return vf, lacks("it is no VF")
	}
	links, err := filepath.Glob(filepath.Join(device, "physfn/virtfn*"))
	if err != nil {
		return vf, err
	}
	of := slices.IndexFunc(links, func(link string) bool {
		to, err := os.Readlink(link)
		return err == nil && filepath.Base(to) == addr
	})
	if of < 0 {
		return vf, lacks("its NIC does not have it any more")
	}
	if vf.Index, err = strconv.Atoi(strings.TrimPrefix(filepath.Base(links[of]), "virtfn")); err != nil {
		return vf, err
	}
	netdevs, err := filepath.Glob(filepath.Join(device, "physfn/net/*"))
	for _, dir := range netdevs {
		if text, err := os.ReadFile(filepath.Join(dir, "ifindex")); err == nil && isNetdev(c, filepath.Base(dir), string(text)) {
			vf.PF = filepath.Base(dir)
			return vf, nil
		}
	}
	return vf, errors.Join(err, lacks("its NIC has no netdev in the host's network namespace"))
}

// isNetdev reports whether the netdev of a name has that number in this namespace.
func isNetdev(c *rtnl, name, index string) bool {
	n, err := readNetdev(c, name)
	return err == nil && strconv.Itoa(n.Index) == strings.TrimSpace(index)
}

// readVFMAC asks the NIC for the address that it holds for a VF.
func readVFMAC(c *rtnl, vf VF) (vswitch.MAC, error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(vf.PF)))
	l, err := askLink(c, r)
	if err != nil {
		return vswitch.MAC{}, fmt.Errorf("netdev %s: %w", vf.PF, err)
	}
	mac, there := l.vfs[vf.Index]
	if !there {
		return mac, &vswitch.Error{Kind: vswitch.NotFound, Object: fmt.Sprintf("VF %d of %s", vf.Index, vf.PF)}
	}
	return mac, nil
}

// setVFMAC is a message with one address of one VF. The kernel looks at nothing else of it.
func setVFMAC(s plan.SetVFMAC) *nl.NetlinkRequest {
	value := make([]byte, 0, sizeofVFMAC)
	value = append(value, nl.Uint32Attr(uint32(s.VF))...)
	value = append(value, s.MAC[:]...)
	m := byName(unix.RTM_NEWLINK, 0, s.PF, noHeader())
	list := nl.NewRtAttr(unix.IFLA_VFINFO_LIST, nil)
	list.AddRtAttr(nl.IFLA_VF_INFO, nil).AddRtAttr(nl.IFLA_VF_MAC, value[:sizeofVFMAC])
	m.AddData(list)
	return m
}

func (a *applier) letIn(step int, s plan.LetIn) error {
	index, err := a.index(step, "", s.Netdev)
	if err != nil {
		return err
	}
	if s.Off {
		return a.remove(step, "", filterEntry(unix.RTM_DELNEIGH, 0, index, s.MAC))
	}
	return a.queue("", request{NetlinkRequest: filterEntry(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE, index, s.MAC), step: step})
}

// filterEntry is a message about an address of a NIC's own filter.
func filterEntry(message, flags, index int, mac vswitch.MAC) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	r.AddData(neighbour{family: unix.AF_BRIDGE, index: index, state: unix.NUD_PERMANENT, flags: unix.NTF_SELF})
	r.AddData(macAttribute(unix.NDA_LLADDR, mac))
	return r
}
