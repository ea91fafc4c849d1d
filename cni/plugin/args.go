package plugin

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// wishes are the addresses that somebody asked for: by a capability, by "args" in
// the configuration, or, oldest and weakest, by CNI_ARGS.
type wishes struct {
	mac vswitch.MAC
	ips []netip.Addr
}

func (c *config) wishes(envArgs string) (wishes, error) {
	env, err := parseEnvArgs(envArgs)
	if err != nil {
		return wishes{}, err
	}
	w := wishes{mac: env.MAC}
	for _, m := range []vswitch.MAC{c.Args.MAC, c.Runtime.MAC} {
		if !m.IsZero() {
			w.mac = m
		}
	}
	ips := env.IPs
	for _, more := range [][]string{c.Args.IPs, c.Runtime.IPs} {
		if len(more) > 0 {
			ips = more
		}
	}
	const most = 64
	if len(ips) > most {
		return wishes{}, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("%d addresses requested, the limit is %d", len(ips), most), "")
	}
	for _, s := range ips {
		addr, err := parseAddress(s)
		if err != nil {
			return wishes{}, err
		}
		w.ips = append(w.ips, addr)
	}
	return w, nil
}

// parseAddress reads an address with or without a prefix length.
func parseAddress(s string) (netip.Addr, error) {
	bare, _, _ := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(bare)
	if _, perr := netip.ParsePrefix(s); err != nil || bare != s && perr != nil || addr.Zone() != "" {
		return addr, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("requested address %.80q is none", s), "write it like 10.0.0.5 or 10.0.0.5/24")
	}
	return addr.Unmap(), nil
}

// parseEnvArgs reads CNI_ARGS, "K=V;K=V". Kubernetes' K8S_ keys are never ours;
// other unknown keys are an error unless IgnoreUnknown is set.
func parseEnvArgs(s string) (cniArgs, error) {
	var args cniArgs
	var unknown []string
	ignore := false
	for _, pair := range strings.Split(s, ";") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			if strings.TrimSpace(pair) == "" {
				continue
			}
			return args, badArgs(fmt.Sprintf("%.64q is not KEY=VALUE", pair))
		}
		switch {
		case key == "IgnoreUnknown":
			switch strings.ToLower(value) {
			case "1", "true":
				ignore = true
			case "0", "false":
			default:
				return args, badArgs(fmt.Sprintf("IgnoreUnknown is true or false, not %.32q", value))
			}
		case key == "MAC":
			mac, err := vswitch.ParseMAC(value)
			if err != nil {
				return args, badArgs("MAC: " + err.Error())
			}
			args.MAC = mac
		case key == "IP":
			args.IPs = strings.Split(value, ",")
		case !strings.HasPrefix(key, "K8S_"):
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 && !ignore {
		return args, badArgs(fmt.Sprintf("unknown keys %.200q; known are MAC, IP and IgnoreUnknown", unknown))
	}
	return args, nil
}

func badArgs(msg string) error {
	return types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: "+msg, "")
}
