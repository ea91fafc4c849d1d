// Package pcapng writes frames of one netdev in the format that Wireshark and tcpdump read
// (draft-ietf-opsawg-pcapng), with times in nanoseconds.
package pcapng

import (
	"bufio"
	"encoding/binary"
	"io"
	"time"
)

// Writer writes a section with one interface.
type Writer struct{ out *bufio.Writer }

// Interface describes what is captured.
type Interface struct {
	Name, Description string
	Snaplen           int
	Program           string // who writes
}

// Direction is how a frame passed the interface.
type Direction uint32

// The directions, as the flags of a block have them.
const (
	Inbound  Direction = 1
	Outbound Direction = 2
)

// Blocks and options of the format.
const (
	sectionBlock, interfaceBlock, statisticsBlock, packetBlock = 0x0a0d0d0a, 1, 5, 6

	endOfOptions                                                 = 0
	sectionProgram                                               = 4
	interfaceName, interfaceDescription, interfaceTimeResolution = 2, 3, 9
	packetFlags                                                  = 2
	statisticsReceived, statisticsDropped                        = 4, 5

	byteOrderMagic   = 0x1a2b3c4d
	linkTypeEthernet = 1
	nanoseconds      = 9 // a power of ten
)

// NewWriter begins a section. Nothing is sure to be written before Flush.
func NewWriter(w io.Writer, i Interface) (*Writer, error) {
	p := &Writer{out: bufio.NewWriterSize(w, 256<<10)}
	var section block
	section.u32(byteOrderMagic)
	section.u16(1) // version 1.0
	section.u16(0)
	section.u32(0xffffffff) // the length of the section, unknown
	section.u32(0xffffffff)
	section.option(sectionProgram, []byte(i.Program))
	section.option(endOfOptions, nil)
	if err := p.write(sectionBlock, section); err != nil {
		return nil, err
	}
	var b block
	b.u16(linkTypeEthernet)
	b.u16(0)
	b.u32(uint32(i.Snaplen))
	b.option(interfaceName, []byte(i.Name))
	b.option(interfaceDescription, []byte(i.Description))
	b.option(interfaceTimeResolution, []byte{nanoseconds})
	b.option(endOfOptions, nil)
	return p, p.write(interfaceBlock, b)
}

// Packet writes a frame that had a length on the wire and of which data is the beginning.
func (p *Writer) Packet(at time.Time, d Direction, length int, data []byte) error {
	b := make(block, 0, len(data)+40)
	b.u32(0) // the first interface
	b.time(at)
	b.u32(uint32(len(data)))
	b.u32(uint32(length))
	b.padded(data)
	b.option(packetFlags, binary.NativeEndian.AppendUint32(nil, uint32(d)))
	b.option(endOfOptions, nil)
	return p.write(packetBlock, b)
}

// Statistics ends a section with how many frames came, those counted that were dropped.
func (p *Writer) Statistics(at time.Time, received, dropped uint64) error {
	var b block
	b.u32(0)
	b.time(at)
	b.option(statisticsReceived, binary.NativeEndian.AppendUint64(nil, received))
	b.option(statisticsDropped, binary.NativeEndian.AppendUint64(nil, dropped))
	b.option(endOfOptions, nil)
	return p.write(statisticsBlock, b)
}

// Flush writes all that has not been written.
func (p *Writer) Flush() error { return p.out.Flush() }

func (p *Writer) write(kind uint32, body block) error {
	length := uint32(12 + len(body))
	var head block
	head.u32(kind)
	head.u32(length)
	if _, err := p.out.Write(head); err != nil {
		return err
	}
	if _, err := p.out.Write(body); err != nil {
		return err
	}
	_, err := p.out.Write(binary.NativeEndian.AppendUint32(nil, length))
	return err
}

// block is the body of one; its length is always a multiple of four.
type block []byte

func (b *block) u16(v uint16) { *b = binary.NativeEndian.AppendUint16(*b, v) }
func (b *block) u32(v uint32) { *b = binary.NativeEndian.AppendUint32(*b, v) }

func (b *block) time(t time.Time) {
	n := uint64(t.UnixNano())
	b.u32(uint32(n >> 32))
	b.u32(uint32(n))
}

func (b *block) option(kind uint16, value []byte) {
	b.u16(kind)
	b.u16(uint16(len(value)))
	b.padded(value)
}

func (b *block) padded(data []byte) {
	*b = append(*b, data...)
	*b = append(*b, make([]byte, -len(data)&3)...)
}
