package xfrm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrStays is in the error of a Move after which the SA is where the host's processors work
// for it, as it was: the device refused.
var ErrStays = errors.New("the SA stays in software")

// tries is how often an SA that was removed is added again where that fails for want of
// memory.
const tries = 5

// Move has a device work for an SA, or, with ifindex 0, none. The device's part of the
// kernel takes an SA only while it is being made, and no second one is made beside it with
// the same number: so it is removed and made anew, from all that the kernel knows of it. Both are
// one datagram to the kernel, which nothing can come in between, neither our end nor whoever
// keeps the SA; and the same datagram makes it once more without the device, which fails if
// it was made with it. Packets that come in between, some microseconds, find no SA, and the
// policy drops them.
//
// The error is ErrGone if the SA was removed by its keeper before that, and wraps ErrStays
// if the device would not have it. Any other but of a context leaves in doubt what is.
func (c *Conn) Move(k Key, ifindex int, d Direction) (SA, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, err := c.get(k)
	if err != nil {
		return SA{}, err
	}
	if on, _ := was.Offload(); on == ifindex {
		return was, nil
	}
	if why := was.Unfit(time.Now()); why != "" {
		return was, fmt.Errorf("%w: %s", ErrStays, why)
	}
	last, err := c.replace(was, was.renewed(d), ifindex, d)
	if err != nil && !errors.Is(err, ErrStays) {
		return SA{}, err
	}
	now, getErr := c.mend(was, last, d)
	if getErr != nil {
		return SA{}, getErr
	}
	if on, _ := now.Offload(); err == nil && on != ifindex {
		err = fmt.Errorf("%w: the driver took it and does not work for it", ErrStays)
	}
	return now, err
}

// replace removes an SA and makes the other, and returns the first one's very last state.
func (c *Conn) replace(was, then SA, ifindex int, d Direction) (last SA, err error) {
	last = was
	if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, nl.XFRMNLGRP_SA); err != nil {
		return last, err
	}
	defer func() {
		err = errors.Join(err, unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP, nl.XFRMNLGRP_SA))
	}()
	k := was.Key()
	software := then.on(0, d).add()
	errs, err := c.carryOut(func(m message) {
		if m.port != c.port || m.kind != nl.XFRM_MSG_DELSA {
			return
		}
		if e, ok := parseEvent(m); ok && e.SA.Key() == k {
			last = e.SA
		}
	}, k.request(nl.XFRM_MSG_DELSA, unix.NLM_F_ACK), then.on(ifindex, d).add(), software)
	if err != nil {
		return last, err
	}
	removed, made, again := errs[0], errs[1], errs[2]
	switch {
	case errors.Is(removed, unix.ESRCH):
		// Its keeper removed it after we had looked: what we made is nobody's.
		_, err := c.carryOut(ignore, k.request(nl.XFRM_MSG_DELSA, unix.NLM_F_ACK))
		return last, errors.Join(ErrGone, err)
	case removed != nil: // then the others failed too: there is one
		return last, fmt.Errorf("%w: it cannot be removed: %w", ErrStays, removed)
	case made == nil:
		return last, nil
	}
	for i := 0; again != nil && i < tries; i++ {
		if errs, err := c.carryOut(ignore, software); err == nil {
			again = errs[0]
		}
	}
	if again != nil {
		return last, fmt.Errorf("%s is lost: it was removed, and cannot be made again: %w", k, again)
	}
	return last, fmt.Errorf("%w: %w", ErrStays, made)
}

// mend looks at an SA that was made anew, and adds what the one before it did between the
// look at it and its end. Packets that come between this look and its result are forgotten:
// one of those could come a second time until as many as the window is wide came after it.
// What was sent since is not: an SA's own numbers are left alone, or go on far ahead.
func (c *Conn) mend(was, last SA, d Direction) (SA, error) {
	now, err := c.get(was.Key())
	if err != nil || bytes.Equal(was.used(), last.used()) {
		return now, err // nothing used it
	}
	used := bytes.Clone(now.used())
	addUsed(used, last.used(), was.used())
	errs, err := c.carryOut(ignore, now.catchUp(last.replay(), used, d))
	if err == nil {
		err = errs[0]
	}
	if err != nil {
		return now, fmt.Errorf("bring %s up to date: %w", was.Key(), err)
	}
	return now, nil
}

// addUsed adds to what an SA did what another did from then to now.
func addUsed(used, now, then []byte) {
	for _, at := range []int{0, 8} { // bytes, packets
		n := binary.NativeEndian.Uint64(used[at:]) + binary.NativeEndian.Uint64(now[at:]) - binary.NativeEndian.Uint64(then[at:])
		binary.NativeEndian.PutUint64(used[at:], n)
	}
	if binary.NativeEndian.Uint64(used[24:]) == 0 { // first used
		copy(used[24:], now[24:])
	}
}
