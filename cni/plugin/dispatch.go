package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/wire"
)

// Serve carries out a call with these verbs. It does not write anything itself, and
// it may be repeated as the specification wants of each verb.
func Serve(ctx context.Context, verbs api.Verbs, c wire.Call) wire.Answer {
	var out bytes.Buffer
	err := plugin{client: verbs}.serve(ctx, c, &out)
	if err == nil {
		return wire.Answer{Out: out.Bytes()}
	}
	text, _ := json.MarshalIndent(err, "", "    ") // of two strings and a number
	return wire.Answer{Out: text, Failed: true}
}

// ServeResident is Serve in a process that stays, and serves the calls of others. Where
// done is false it has done nothing, and the call is for the plugin's own process: one
// with a path that means something else to every process, or with another IPAM plugin,
// which inherits the environment of the process that starts it.
func ServeResident(ctx context.Context, verbs api.Verbs, c wire.Call) (a wire.Answer, done bool) {
	if rest := parseRemains(c.Stdin); wire.OwnPath(c.Netns) || rest.IPAM.delegated() {
		return a, false
	}
	return Serve(ctx, verbs, c), true
}

// plugin serves CNI's verbs with ours.
type plugin struct{ client api.Verbs }

// supported are the versions of the specification that we speak.
func supported() version.PluginInfo {
	return version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")
}

// command is one of the specification's.
type command struct {
	needs []string // of the environment
	since string   // the version that brought it
	do    func(plugin, context.Context, wire.Call, *bytes.Buffer) error
}

func commands() map[string]command {
	quiet := func(do func(plugin, context.Context, wire.Call) error) func(plugin, context.Context, wire.Call, *bytes.Buffer) error {
		return func(p plugin, ctx context.Context, c wire.Call, _ *bytes.Buffer) error { return do(p, ctx, c) }
	}
	return map[string]command{
		"ADD":    {needs: []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}, do: plugin.add},
		"DEL":    {needs: []string{"CNI_CONTAINERID", "CNI_IFNAME"}, do: quiet(plugin.del)},
		"CHECK":  {needs: []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}, do: quiet(plugin.check), since: "0.4.0"},
		"STATUS": {do: quiet(plugin.status), since: "1.1.0"},
		"GC":     {do: quiet(plugin.gc), since: "1.1.0"},
	}
}

// serve is Serve but for the form of an error. It asks of the environment and of the
// configuration what the library's package skel asks, whose regular expressions and
// second readings of the configuration take a millisecond of a plugin's start.
func (p plugin) serve(ctx context.Context, c wire.Call, out *bytes.Buffer) *types.Error {
	if c.Command == "VERSION" {
		if err := supported().Encode(out); err != nil {
			return types.NewError(types.ErrIOFailure, err.Error(), "")
		}
		return nil
	}
	cmd, known := commands()[c.Command]
	if !known {
		return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("unknown CNI_COMMAND: %.64q", c.Command), "")
	}
	err := cmd.accepts(c)
	if err == nil {
		err = cmd.do(p, ctx, c, out)
	}
	if err == nil {
		return nil
	}
	return asCNI(err)
}

// accepts looks at what the specification has a plugin look at first.
func (cmd command) accepts(c wire.Call) error {
	if err := cmd.acceptsEnvironment(c); err != nil {
		return err
	}
	var keys map[string]json.RawMessage
	if err := decode("", c.Stdin, &keys); err != nil {
		return err
	}
	var name, configured string
	for _, field := range []struct {
		key  string
		into *string
	}{{"name", &name}, {"cniVersion", &configured}} {
		if raw := keys[field.key]; !isNull(raw) {
			if err := decode(field.key, raw, field.into); err != nil {
				return err
			}
		}
	}
	if name == "" {
		return types.NewError(types.ErrInvalidNetworkConfig, "missing network name", "")
	}
	if !isName(name) {
		return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("invalid characters in network name %.64q", name), nameHint)
	}
	return cmd.acceptsVersion(c.Command, configured)
}

func (cmd command) acceptsVersion(name, configured string) error {
	if all := supported().SupportedVersions(); !slices.Contains(all, configured) {
		return types.NewError(types.ErrIncompatibleCNIVersion,
			fmt.Sprintf("cniVersion %.32q is not supported", configured), "supported are "+strings.Join(all, ", "))
	}
	if cmd.since == "" {
		return nil
	}
	if there, err := version.GreaterThanOrEqualTo(configured, cmd.since); err != nil || !there {
		return types.NewError(types.ErrIncompatibleCNIVersion,
			fmt.Sprintf("there is no %s in version %s of the specification", name, configured), "cniVersion has to be "+cmd.since+" or later")
	}
	return nil
}

func (cmd command) acceptsEnvironment(c wire.Call) error {
	given := map[string]string{"CNI_CONTAINERID": c.ContainerID, "CNI_NETNS": c.Netns, "CNI_IFNAME": c.IfName}
	var missing []string
	for _, name := range cmd.needs {
		if given[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("missing from the environment: %s", strings.Join(missing, ", ")), "")
	}
	if !slices.Contains(cmd.needs, "CNI_CONTAINERID") {
		return nil // nor an interface
	}
	if !isName(c.ContainerID) {
		return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("invalid characters in containerID %.64q", c.ContainerID), nameHint)
	}
	if reason := unfitInterface(c.IfName); reason != "" {
		return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("interface name %.64q %s", c.IfName, reason), "")
	}
	return nil
}

const nameHint = "use letters, digits, dots, hyphens and underscores; the first is a letter or a digit"

// isName reports whether the specification allows s as the name of a network or the
// id of a container.
func isName(s string) bool {
	plain := func(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' }
	other := func(r rune) bool { return !plain(r) && !strings.ContainsRune("_.-", r) }
	return s != "" && plain(rune(s[0])) && !strings.ContainsFunc(s, other)
}

// unfitInterface says why the specification does not allow a name of an interface.
func unfitInterface(s string) string {
	const longest = 15
	switch {
	case len(s) > longest:
		return fmt.Sprintf("is longer than %d bytes", longest)
	case s == ".", s == "..":
		return "is a directory's"
	case strings.ContainsFunc(s, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) }):
		return "has a slash, a colon or a space in it"
	}
	return ""
}

// printed writes a result in the version that the configuration wants.
func printed(out *bytes.Buffer, r types.Result, configured string) error {
	converted, err := r.GetAsVersion(configured)
	if err == nil {
		err = converted.PrintTo(out)
	}
	if err != nil {
		return types.NewError(types.ErrIOFailure, "the result cannot be printed: "+err.Error(), "")
	}
	return nil
}
