package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// otherEnd is the other end of a pair whose one end is named so.
func (e *Engine) otherEnd(ctx context.Context, name string) (string, error) {
	one, err := e.kernel.Netdev(ctx, name)
	if err != nil {
		return "", err
	}
	all, err := e.kernel.Netdevs(ctx)
	for _, other := range all {
		if one.Peer != 0 && other.Index == one.Peer && other.Peer == one.Index {
			return other.Name, nil
		}
	}
	if err == nil {
		err = &vswitch.Error{Kind: vswitch.NotFound, Object: "netdev " + name, Err: errors.New("its other end is not on this host"), Hint: "name the end that a container is about to get"}
	}
	return "", err
}
