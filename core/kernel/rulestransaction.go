package kernel

import (
	"encoding/binary"
	"os"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// transaction collects changes of the ruleset that are made together or not at
// all: one batch of nfnetlink, in one send.
type transaction struct {
	messages []*nl.NetlinkRequest
	// generation, if not 0, is that of the ruleset that it is about: if there is another
	// by now it fails with ERESTART.
	generation uint32
}

func (tx *transaction) add(message int, family uint8, flags int, attrs ...attribute) {
	tx.messages = append(tx.messages, nftMessage(message, family, flags, attrs))
}

// send carries the transaction out. The kernel answers each message that failed,
// in their order, and the last one in any case; the first failure is returned.
// What concerns the whole transaction it answers to its begin, and then nothing
// else need come.
func (tx *transaction) send(c *rtnl) error {
	if len(tx.messages) == 0 {
		return nil
	}
	tx.messages[len(tx.messages)-1].Flags |= unix.NLM_F_ACK
	start := batchMark(unix.NFNL_MSG_BATCH_BEGIN)
	if tx.generation != 0 {
		start.AddData(numberAttr(unix.NFNL_BATCH_GENID, tx.generation))
	}
	batch := slices.Concat([]*nl.NetlinkRequest{start},
		tx.messages, []*nl.NetlinkRequest{batchMark(unix.NFNL_MSG_BATCH_END)})
	var out []byte
	requests := make([]request, len(batch))
	waiting := make(map[uint32]int, len(batch))
	for i, m := range batch {
		requests[i].NetlinkRequest = m
		waiting[m.Seq] = i
		out = append(out, m.Serialize()...) // attributes are padded: so is the message
	}
	c.growSendBuffer(len(out))
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("netlink send", err)
	}
	begin, last := batch[0].Seq, batch[len(batch)-2].Seq
	failed := make([]error, len(batch))
	for open(waiting, begin) && open(waiting, last) {
		if err := c.receive(requests, waiting, failed); err != nil {
			c.broken = true
			return err
		}
	}
	c.broken = c.broken || open(waiting, last)
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

func open(waiting map[uint32]int, seq uint32) bool {
	_, ok := waiting[seq]
	return ok
}

// batchMark begins or ends a transaction.
func batchMark(kind int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(kind, 0)
	subsystem := binary.NativeEndian.Uint16([]byte{0, unix.NFNL_SUBSYS_NFTABLES}) // big endian
	r.AddData(&nl.Nfgenmsg{Version: unix.NFNETLINK_V0, ResId: subsystem})
	return r
}

// growSendBuffer makes room for a send beyond what every system grants.
func (c *rtnl) growSendBuffer(size int) {
	const granted = 64 << 10
	if size <= granted {
		return
	}
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size) != nil {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
	}
}
