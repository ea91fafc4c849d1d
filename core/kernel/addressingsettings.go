package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// readSettings reads what net.ipv4.conf and net.ipv6.conf have on a netdev, in the
// namespace of the calling thread.
func readSettings(netdev string) (map[string]string, error) {
	settings := make(map[string]string)
	for _, family := range []string{"ipv4", "ipv6"} {
		dir := filepath.Join("/proc/sys/net", family, "conf", netdev)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := family + "/" + e.Name()
			if info, err := e.Info(); err != nil || info.Mode()&0o200 == 0 || bound(name) {
				continue
			}
			value, err := sysctl(filepath.Join(dir, e.Name()))
			if err != nil { // one that has no value yet cannot be read (stable_secret)
				continue
			}
			settings[name] = value
		}
	}
	return settings, nil
}

// bound settings belong to a netdev, not to what the host has there.
func bound(name string) bool { return name == "ipv6/mtu" }

// settingAddrGenMode is how the kernel makes up IPv6 link-local addresses: a write to
// its file makes them at once, so we set it by netlink.
const settingAddrGenMode = "ipv6/addr_gen_mode"

// setSettings writes settings in the namespace of the calling thread.
func (a *applier) setSettings(step int, s plan.SetSettings) error {
	if mode, ok := s.Settings[settingAddrGenMode]; ok {
		r := request{NetlinkRequest: addrGenMode(s.Netdev, mode), step: step, absent: true} // the netdev may have been unplugged
		if err := a.queue("", r); err != nil {
			return err
		}
	}
	return a.outside(func() error {
		for name, value := range s.Settings {
			family, file, _ := strings.Cut(name, "/")
			if name == settingAddrGenMode {
				continue
			}
			err := setSysctl(filepath.Join("/proc/sys/net", family, "conf", s.Netdev, file), value)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

func addrGenMode(netdev, mode string) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, 0, netdev, noHeader())
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	var value uint8
	_, _ = fmt.Sscan(mode, &value)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(inet6AddrGenMode, nl.Uint8Attr(value))
	r.AddData(spec)
	return r
}
