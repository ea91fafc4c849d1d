package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containernetworking/cni/libcni"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Host is a namespace in which the plugin runs, with state directories of its
// own. Its methods may be called at the same time.
type Host struct {
	*Netns
	Dir  string // everything of this host: namespaces, state, caches
	Root string // the source tree, whose bin holds what is tried

	ownFiles bool // it has an estate, and Patchbay's directories where users have them

	mu         sync.Mutex
	containers []*Container
	others     []*Netns
}

// New makes a host below dir, which must exist and be empty.
func New(dir string) (*Host, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	ns, err := NewNetns(filepath.Join(dir, "netns", "host"))
	if err != nil {
		return nil, err
	}
	h := &Host{Netns: ns, Dir: dir, Root: root}
	for _, d := range []string{h.RunDir(), h.StateDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, errors.Join(err, ns.Close())
		}
	}
	return h, nil
}

// RunDir is what /run/patchbay is on a real host.
func (h *Host) RunDir() string {
	if h.ownFiles {
		return "/run/patchbay"
	}
	return filepath.Join(h.Dir, "run")
}

// StateDir is what /var/lib/patchbay is on a real host.
func (h *Host) StateDir() string {
	if h.ownFiles {
		return "/var/lib/patchbay"
	}
	return filepath.Join(h.Dir, "state")
}

// Env moves Patchbay's directories below Dir.
func (h *Host) Env() []string {
	if h.ownFiles {
		return nil
	}
	return []string{"PATCHBAY_RUN_DIR=" + h.RunDir(), "PATCHBAY_STATE_DIR=" + h.StateDir()}
}

// PluginPath is where CNI plugins are looked for: ours, then the reference's.
func (h *Host) PluginPath() []string {
	return []string{filepath.Join(h.Root, "bin/cni"), filepath.Join(h.Root, "bin/tools/cni")}
}

// Patchbay runs the CLI on the host.
func (h *Host) Patchbay(args ...string) (string, error) {
	return h.RunEnv(h.Env(), append([]string{filepath.Join(h.Root, "bin/patchbay")}, args...)...)
}

// PatchbayJSON runs the CLI with -o json and decodes what it prints.
func (h *Host) PatchbayJSON(into any, args ...string) error {
	out, err := h.Patchbay(append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("patchbay %v prints no JSON: %w: %s", args, err, out)
	}
	return nil
}

// VMPorts are the ports of virtual machines, as the CLI lists them.
func (h *Host) VMPorts() ([]vswitch.Port, error) {
	var ports []vswitch.Port
	err := h.PatchbayJSON(&ports, "port", "list")
	return slices.DeleteFunc(ports, func(p vswitch.Port) bool { return p.Owner.Kind != vswitch.OwnerVM }), err
}

// Neighbour makes a further namespace beside the host: the outside network.
func (h *Host) Neighbour(name string) (*Netns, error) {
	ns, err := NewNetns(filepath.Join(h.Dir, "netns", name))
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.others = append(h.others, ns)
	return ns, nil
}

// Container is a container as a CNI runtime sees it: an id and a namespace.
type Container struct {
	*Netns
	libcni.RuntimeConf
}

// Container makes a container without any interface but lo; its interface is to
// be eth0.
func (h *Host) Container(id string) (*Container, error) {
	ns, err := NewNetns(filepath.Join(h.Dir, "netns", "c-"+id))
	if err != nil {
		return nil, err
	}
	c := &Container{Netns: ns, RuntimeConf: libcni.RuntimeConf{ContainerID: id, NetNS: ns.Path, IfName: "eth0"}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.containers = append(h.containers, c)
	return c, nil
}

// Close lets all namespaces of the host go, several at a time: each unmounting waits
// for the kernel, and there may be thousands.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.others)
	for _, c := range h.containers {
		all = append(all, c.Netns)
	}
	const workers = 16
	var group sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		group.Go(func() {
			for i := w; i < len(all); i += workers {
				errs[w] = errors.Join(errs[w], all[i].Close())
			}
		})
	}
	group.Wait()
	return errors.Join(append(errs, h.Netns.Close())...)
}
