package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// dataType is a type of keys and values, by the number that nft gives it
// (nftables, include/datatype.h). The kernel only keeps the number.
type dataType uint32

const (
	verdicts   dataType = unix.NFT_DATA_VERDICT // the kernel knows this one
	etherAddr  dataType = 9
	etherTypes dataType = 10
	protocols  dataType = 12
	icmp4Type  dataType = 14
	icmp6Type  dataType = 29
	devGroup   dataType = 35
	ifName     dataType = 41
	port16     dataType = 13 // inet_service: a number of two bytes, as a VLAN's is
	ifIndex    dataType = 20
	ipv4Addr   dataType = 7
	ipv6Addr   dataType = 8

	ifNameEtherAddr     = ifName<<concatenated | etherAddr
	ifNameVLAN          = ifName<<concatenated | port16
	ifNameIPv6          = ifName<<concatenated | ipv6Addr
	ifNameEtherAddrIPv4 = ifNameEtherAddr<<concatenated | ipv4Addr
	ifIndexEtherAddr    = ifIndex<<concatenated | etherAddr
	etherAddrVLAN       = etherAddr<<concatenated | port16
	session4            = ((ipv4Addr<<concatenated|ipv4Addr)<<concatenated|protocols)<<(2*concatenated) | port16<<concatenated | port16
	session6            = ((ipv6Addr<<concatenated|ipv6Addr)<<concatenated|protocols)<<(2*concatenated) | port16<<concatenated | port16
	concatenated        = 6 // bits of each part
)

// Sizes in a key: a name's, and an address's, which fills up whole words where
// it is a part.
const nameLen, paddedMAC, paddedVLAN = unix.IFNAMSIZ, 8, 4

// size of a key or value in bytes.
func (t dataType) size() int {
	switch t {
	case etherAddr:
		return etherLen
	case icmp4Type, icmp6Type:
		return 1
	case etherTypes:
		return 2
	case devGroup, ifIndex:
		return 4
	case ifName:
		return nameLen
	case ifNameVLAN:
		return nameLen + paddedVLAN
	case etherAddrVLAN:
		return paddedMAC + paddedVLAN
	case ifNameEtherAddr:
		return nameLen + paddedMAC
	case ifNameEtherAddrIPv4:
		return nameLen + paddedMAC + 4
	case ifIndexEtherAddr:
		return 4 + paddedMAC
	case ifNameIPv6:
		return nameLen + 16
	case session4:
		return 4 + 4 + 3*4
	case session6:
		return 16 + 16 + 3*4
	}
	return 0
}

// attributes describe a set to the kernel. id is its number in the transaction.
func (s ruleSet) attributes(table string, id uint32) []attribute {
	flags := uint32(0)
	if s.value != 0 {
		flags |= unix.NFT_SET_MAP
	}
	if s.constant != nil {
		flags |= unix.NFT_SET_CONSTANT
	}
	if s.each == limits {
		flags |= setWithExpressions
	}
	if s.learnt != 0 {
		flags |= unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT
	}
	list := []attribute{
		nameAttr(unix.NFTA_SET_TABLE, table),
		nameAttr(unix.NFTA_SET_NAME, s.name),
		numberAttr(unix.NFTA_SET_FLAGS, flags),
		numberAttr(unix.NFTA_SET_KEY_TYPE, uint32(s.key)),
		numberAttr(unix.NFTA_SET_KEY_LEN, uint32(s.key.size())),
		numberAttr(unix.NFTA_SET_ID, id),
	}
	if s.value != 0 {
		list = append(list, numberAttr(unix.NFTA_SET_DATA_TYPE, uint32(s.value)), numberAttr(unix.NFTA_SET_DATA_LEN, uint32(s.value.size())))
	}
	if s.constant != nil {
		list = append(list, listAttr(unix.NFTA_SET_DESC, numberAttr(unix.NFTA_SET_DESC_SIZE, uint32(len(s.constant)))))
	}
	switch s.each {
	case counts:
		list = append(list, listAttr(setExpression, counter().parts()...))
	case limits:
		list = append(list, listAttr(setExpressions, limitOver(1).attribute(), counter().attribute()))
	}
	if s.learnt != 0 {
		list = append(list,
			bytesAttr(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(s.learnt.Milliseconds()))),
			listAttr(unix.NFTA_SET_DESC, numberAttr(unix.NFTA_SET_DESC_SIZE, s.room)))
	}
	if note := s.byteOrder(); note != nil {
		list = append(list, bytesAttr(unix.NFTA_SET_USERDATA, note))
	}
	return list
}

// byteOrder is the note by which nft knows how to print a set's keys (libnftnl,
// NFTNL_UDATA_SET_KEYBYTEORDER), or nil where it can tell by the type.
func (s ruleSet) byteOrder() []byte {
	const kind, host, network = 0, 1, 2
	order := uint32(network)
	switch {
	case s.key == devGroup || s.key == ifName:
		order = host
	case s.constant == nil && s.value != ifName:
		return nil
	}
	note := binary.NativeEndian.AppendUint32([]byte{kind, 4}, order)
	if s.value == ifIndex || s.value == ifName {
		const ofValues = 1 // NFTNL_UDATA_SET_DATABYTEORDER
		note = binary.NativeEndian.AppendUint32(append(note, ofValues, 4), host)
	}
	return note
}

// element is a key of a set, with a value if the set is a map.
type element struct{ key, value string }

func (e element) attribute() attribute {
	list := []attribute{dataAttr(unix.NFTA_SET_ELEM_KEY, []byte(e.key))}
	if e.value != "" {
		list = append(list, dataAttr(unix.NFTA_SET_ELEM_DATA, []byte(e.value)))
	}
	return listAttr(unix.NFTA_LIST_ELEM, list...)
}
