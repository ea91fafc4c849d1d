package kernel

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what the kernel is set to and what else runs on the host, as far as
// switches depend on it.
type Host struct {
	Release string // uname -r
	// Sysctls has those of interest that exist, in the spelling of sysctl(8) that takes
	// netdevs with a dot in their name: net/ipv4/ip_forward. Per netdev it has
	// net/ipv4/conf/NETDEV/rp_filter and net/ipv6/conf/NETDEV/accept_ra.
	Sysctls map[string]string
	// Loadable are kernel modules that could be loaded and are not.
	Loadable map[string]bool
	// Forward are everybody else's nftables chains that forwarded packets pass.
	Forward []ForwardChain
	// Legacy are the tables of the old iptables ("filter"), which nftables does not
	// show, by family: "ip" and "ip6".
	Legacy map[string][]string
	// Services are those running of firewalld, docker, NetworkManager, systemd-networkd.
	Services map[string]bool
	// IOMMU says that devices can be given to VMs: one is there and on.
	IOMMU bool
	// Managers says who manages a netdev: "NetworkManager" or "systemd-networkd".
	Managers map[string]string
}

// ForwardChain is a base chain at the hook "forward".
type ForwardChain struct {
	Family string // "ip", "ip6", "inet", "bridge" or "arp", as nft(8) names it
	Table  string
	Chain  string
	// Closed: what no rule accepts is dropped, by the policy or by a last rule.
	Closed bool
	// Mentions are netdevs of Patchbay's that a rule of the table compares with, or
	// patterns like "pb*". Names in sets are not among them.
	Mentions []string
}

// Host looks around on the host. What cannot be read is left out.
func (l *Linux) Host(ctx context.Context) (Host, error) {
	if err := ctx.Err(); err != nil {
		return Host{}, err
	}
	h, err := readHost("/")
	if err != nil {
		return h, err
	}
	h.Forward, err = l.forwardChains()
	return h, err
}

// readHost reads the files below root, in which tests lay out a host of their own.
func readHost(root string) (Host, error) {
	h := Host{Sysctls: make(map[string]string), Managers: make(map[string]string)}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return h, os.NewSyscallError("uname", err)
	}
	h.Release = unix.ByteSliceToString(name.Release[:])
	if own, err := sysctl(filepath.Join(root, "proc/sys/kernel/osrelease")); err == nil {
		h.Release = own
	}
	for _, key := range hostSysctls() {
		h.readSysctl(root, key)
	}
	h.Loadable = loadable(root, h.Release)
	h.Legacy = map[string][]string{}
	for family, file := range map[string]string{"ip": "ip_tables_names", "ip6": "ip6_tables_names"} {
		if text, err := os.ReadFile(filepath.Join(root, "proc/thread-self/net", file)); err == nil {
			h.Legacy[family] = strings.Fields(string(text))
		}
	}
	h.Services = services(root)
	groups, err := os.ReadDir(filepath.Join(root, "sys/kernel/iommu_groups"))
	h.IOMMU = err == nil && len(groups) > 0
	links, err := linksHere()
	if err != nil {
		return h, err
	}
	for _, l := range links {
		if strings.ContainsAny(l.name, "/") {
			continue
		}
		h.readSysctl(root, "net/ipv4/conf/"+l.name+"/rp_filter")
		h.readSysctl(root, "net/ipv6/conf/"+l.name+"/accept_ra")
		if m := managerOf(root, l.index, h.Services); m != "" {
			h.Managers[l.name] = m
		}
	}
	return h, nil
}

func hostSysctls() []string {
	return []string{
		"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables", "net/bridge/bridge-nf-call-arptables",
		"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
		"net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6",
		"net/ipv4/conf/all/rp_filter",
		"net/ipv4/neigh/default/gc_thresh2", "net/ipv4/neigh/default/gc_thresh3",
		"net/ipv6/neigh/default/gc_thresh2", "net/ipv6/neigh/default/gc_thresh3",
		"net/core/netdev_max_backlog",
		"net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max",
		"kernel/modules_disabled",
	}
}

func (h *Host) readSysctl(root, key string) {
	if value, err := sysctl(filepath.Join(root, "proc/sys", key)); err == nil {
		h.Sysctls[key] = value
	}
}

// loadable lists modules that the running kernel's package brings and that are not
// loaded.
func loadable(root, release string) map[string]bool {
	found := make(map[string]bool)
	each := func(path string, name func(string) string, value bool) {
		f, err := os.Open(filepath.Join(root, path))
		if err != nil {
			return
		}
		defer f.Close() //nolint:errcheck // only read
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if n := strings.ReplaceAll(name(lines.Text()), "-", "_"); n != "" {
				found[n] = value
			}
		}
	}
	each("lib/modules/"+release+"/modules.dep", func(line string) string {
		path, _, _ := strings.Cut(line, ":")
		n, _, _ := strings.Cut(filepath.Base(path), ".ko")
		return n
	}, true)
	each("proc/modules", func(line string) string {
		n, _, _ := strings.Cut(line, " ")
		return n
	}, false)
	return found
}

// services tells which of those that meddle with networks run: as a unit of systemd,
// or by their file with a process's id.
func services(root string) map[string]bool {
	running := make(map[string]bool)
	for name, s := range map[string]struct{ unit, pidFile string }{
		"firewalld":        {"firewalld.service", "run/firewalld.pid"},
		"docker":           {"docker.service", "run/docker.pid"},
		"NetworkManager":   {"NetworkManager.service", "run/NetworkManager/NetworkManager.pid"},
		"systemd-networkd": {"systemd-networkd.service", ""},
	} {
		for _, hierarchy := range []string{"sys/fs/cgroup/system.slice", "sys/fs/cgroup/systemd/system.slice"} {
			procs, err := os.ReadFile(filepath.Join(root, hierarchy, s.unit, "cgroup.procs"))
			running[name] = running[name] || err == nil && len(bytes.TrimSpace(procs)) > 0
		}
		if s.pidFile == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, s.pidFile))
		pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil && convErr == nil && pid > 0 {
			_, err = os.Stat(filepath.Join(root, "proc", strconv.Itoa(pid), "comm"))
			running[name] = running[name] || err == nil
		}
	}
	return running
}

// managerOf tells which network manager has taken a netdev into its hands, by the
// state that both keep for each index under /run. They manage the first namespace
// alone: in another one nobody does.
func managerOf(root string, index int, running map[string]bool) string {
	if root == "/" && !inFirstNetns() {
		return ""
	}
	state := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root, path, strconv.Itoa(index)))
		if err != nil {
			return ""
		}
		return "\n" + string(text)
	}
	if s := state("run/NetworkManager/devices"); running["NetworkManager"] && strings.Contains(s, "\nmanaged=true") {
		return "NetworkManager"
	}
	s := state("run/systemd/netif/links")
	if running["systemd-networkd"] && strings.Contains(s, "\nADMIN_STATE=") && !strings.Contains(s, "\nADMIN_STATE=unmanaged") {
		return "systemd-networkd"
	}
	return ""
}

func inFirstNetns() bool {
	first, err := os.Readlink("/proc/1/ns/net")
	own, ownErr := os.Readlink("/proc/thread-self/ns/net")
	return err == nil && ownErr == nil && first == own
}
