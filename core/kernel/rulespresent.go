package kernel

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// tablesPresent fails with vswitch.Drifted unless the tables are there, whatever
// is in them, in the namespace of the calling thread; without NAT the one for bridges
// is enough. It is part of every attach, and so as few system calls as can be: no
// answer but theirs, no more of a socket than they need.
func tablesPresent(s plan.RequireRules) error {
	fd, err := netfilterSocket()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	families := []uint8{unix.NFPROTO_BRIDGE, unix.NFPROTO_INET}
	if s.NoNAT {
		families = families[:1]
	}
	var out []byte
	for _, family := range families {
		name := nameAttr(unix.NFTA_TABLE_NAME, tableName)
		out = append(out, nftMessage(unix.NFT_MSG_GETTABLE, family, 0, []attribute{name}).Serialize()...)
	}
	if err := unix.Sendto(fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("netlink send", err)
	}
	for range families {
		if err := receiveTable(fd); err != nil {
			return err
		}
	}
	return nil
}

// receiveTable takes one answer, which is there once the question is sent.
func receiveTable(fd int) error {
	var answer [512]byte
	n, _, err := unix.Recvfrom(fd, answer[:], unix.MSG_DONTWAIT)
	if err != nil {
		return os.NewSyscallError("netlink receive", err)
	}
	if n < unix.SizeofNlMsghdr {
		return unix.EBADMSG
	}
	header := syscall.NlMsghdr{
		Type:  binary.NativeEndian.Uint16(answer[4:]),
		Flags: binary.NativeEndian.Uint16(answer[6:]),
	}
	if header.Type != unix.NLMSG_ERROR {
		return nil
	}
	err = ackError(syscall.NetlinkMessage{Header: header, Data: answer[unix.SizeofNlMsghdr:n]})
	if err != nil && !isAbsent(err) {
		return noNftables(err)
	}
	return &vswitch.Error{
		Kind: vswitch.Drifted, Object: "nftables",
		Err:  fmt.Errorf("the tables %s are gone: %w", tableName, unix.ENOENT),
		Hint: "run `patchbay switch add` with the switch's own definition, which repairs them",
	}
}
