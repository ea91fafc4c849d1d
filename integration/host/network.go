package host

import (
	"context"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// Network is a CNI network configuration list in use on a host, by way of libcni
// as container runtimes use it.
type Network struct {
	List *libcni.NetworkConfigList
	cni  *libcni.CNIConfig
}

// Network reads a configuration list. Its plugins run in the host's namespace.
func (h *Host) Network(conflist string) (*Network, error) {
	return h.network(conflist, &pluginExec{env: h.Env(), in: h.Netns})
}

// NetworkHere is Network for callers on threads that are in the host's namespace
// already (Enter): no thread is started for a plugin, which a benchmark would see.
func (h *Host) NetworkHere(conflist string) (*Network, error) {
	return h.network(conflist, &pluginExec{env: h.Env()})
}

func (h *Host) network(conflist string, exec invoke.Exec) (*Network, error) {
	list, err := libcni.NetworkConfFromBytes([]byte(conflist))
	if err != nil {
		return nil, err
	}
	return &Network{List: list, cni: libcni.NewCNIConfigWithCacheDir(h.PluginPath(), filepath.Join(h.Dir, "cache"), exec)}, nil
}

// Add attaches a container and returns the result as the newest version has it.
func (n *Network) Add(c *Container) (*types100.Result, error) {
	r, err := n.AddRaw(c)
	if err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(r)
}

// AddRaw attaches a container and returns the result in the version of the list.
func (n *Network) AddRaw(c *Container) (types.Result, error) {
	return n.cni.AddNetworkList(context.Background(), n.List, &c.RuntimeConf)
}

// Del detaches a container.
func (n *Network) Del(c *Container) error {
	return n.cni.DelNetworkList(context.Background(), n.List, &c.RuntimeConf)
}

// Check checks a container.
func (n *Network) Check(c *Container) error {
	return n.cni.CheckNetworkList(context.Background(), n.List, &c.RuntimeConf)
}

// Status asks whether ADD could be served.
func (n *Network) Status() error {
	return n.cni.GetStatusNetworkList(context.Background(), n.List)
}

// GC removes every attachment but those of the containers given.
func (n *Network) GC(valid ...*Container) error {
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, c := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: c.ContainerID, IfName: c.IfName})
	}
	return n.cni.GCNetworkList(context.Background(), n.List, args)
}

// Validate asks every plugin of the list for the versions that it speaks.
func (n *Network) Validate() ([]string, error) {
	return n.cni.ValidateNetworkList(context.Background(), n.List)
}

// pluginExec starts CNI plugins with variables added to their environment, in a
// namespace or, without one, in the calling thread's.
type pluginExec struct {
	env []string
	in  *Netns
	raw invoke.RawExec
	version.PluginDecoder
}

// ExecPlugin runs a plugin to its end.
func (e *pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) (out []byte, err error) {
	env = append(env, e.env...)
	if e.in == nil {
		return e.raw.ExecPlugin(ctx, path, stdin, env)
	}
	err = e.in.Do(func() (err error) {
		out, err = e.raw.ExecPlugin(ctx, path, stdin, env)
		return err
	})
	return out, err
}

// FindInPath finds a plugin's executable.
func (e *pluginExec) FindInPath(plugin string, paths []string) (string, error) {
	return e.raw.FindInPath(plugin, paths)
}
