package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
)

// bbolt trusts its pages. One flipped bit in a page number can send it into an
// endless recursion, one in a length can have it ask for all memory; both end the
// process. So before it sees a file we read what it will follow: both meta pages,
// the list of free pages and every branch page, and demand that each page has one
// use. That is a few pages of 4 KiB even for thousands of ports. Leaves are many:
// each is checked before it is written to, by checkPath in path.go. What is merely
// read needs no check: a wrong length ends in a fault or in a wrong checksum.

// The parts of bbolt's file format, version 2, that the check reads. All numbers
// are in the machine's own byte order.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16 // id u64, flags u16, count u16, overflow u32
	elementSize = 16
	metaSize    = 64 // with its checksum, the last 8 bytes

	bucketHeader = 16 // root u64, sequence u64; a page follows if root is 0

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketFlag   = 0x01
)

// errFormatNewer is a bbolt file of a format that this bbolt does not know.
var errFormatNewer = errors.New("file format of another version")

// pageFile is an open database as the check sees it.
type pageFile struct {
	file     *os.File
	pageSize int
	root     uint64
	freelist uint64
	pages    uint64   // the number of pages in use or free
	used     uint64   // those of them that are claimed
	fellBack bool     // the newest meta page, perhaps, is torn: this is the other one
	leaves   []uint64 // of all buckets
	claimed  []uint64 // one bit per page
	checked  []uint64 // of the leaves, one bit per page
	roots    map[string]uint64
	ids      []uint64 // scratch of walk
	buffer   []byte   // scratch of read
}

type metaPage struct {
	pageSize       uint32
	root, freelist uint64
	pages, txid    uint64
}

// checkHeader reads the meta pages and compares the file's size with them. A
// power failure may tear the meta page that was being written, which is why bbolt
// keeps two; strict is for a file that no power failure can have touched.
func checkHeader(file *os.File, strict bool) (*pageFile, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	size := os.Getpagesize()
	buffer := make([]byte, 2*size)
	if n, err := file.ReadAt(buffer, 0); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("truncated: %d bytes are less than its header", n)
	} else if err != nil {
		return nil, err
	}
	a, errA := parseMeta(buffer)
	b, errB := parseMeta(buffer[size:])
	if errA != nil && (errB != nil || strict) {
		return nil, errA
	} else if errB != nil && strict {
		return nil, errB
	}
	m := a
	if errA != nil || errB == nil && b.txid > a.txid {
		m = b
	}
	if int(m.pageSize) != size {
		return nil, fmt.Errorf("written with pages of %d bytes, and those of this machine have %d", m.pageSize, size)
	}
	if uint64(info.Size())/uint64(size) < m.pages {
		return nil, fmt.Errorf("truncated: %d bytes of %d pages of %d", info.Size(), m.pages, size)
	}
	return &pageFile{
		file: file, pageSize: size, root: m.root, freelist: m.freelist, pages: m.pages,
		fellBack: errA != nil || errB != nil,
		claimed:  make([]uint64, m.pages/64+1), checked: make([]uint64, m.pages/64+1),
		roots: map[string]uint64{}, buffer: buffer,
	}, nil
}

func parseMeta(page []byte) (metaPage, error) {
	raw := page[pageHeader:]
	h := fnv.New64a()
	h.Write(raw[:metaSize-8])
	switch {
	case binary.NativeEndian.Uint32(raw) != boltMagic:
		return metaPage{}, errors.New("not a store of Patchbay")
	case binary.NativeEndian.Uint64(raw[metaSize-8:]) != h.Sum64():
		return metaPage{}, errors.New("the checksum of its header is wrong")
	case binary.NativeEndian.Uint32(raw[4:]) != boltVersion:
		return metaPage{}, errFormatNewer
	}
	return metaPage{
		pageSize: binary.NativeEndian.Uint32(raw[8:]),
		root:     binary.NativeEndian.Uint64(raw[16:]),
		freelist: binary.NativeEndian.Uint64(raw[32:]),
		pages:    binary.NativeEndian.Uint64(raw[40:]),
		txid:     binary.NativeEndian.Uint64(raw[48:]),
	}, nil
}

// checkTree claims the free pages and then every page of every bucket.
func (p *pageFile) checkTree() error {
	if err := p.checkFreelist(); err != nil {
		return err
	}
	leaves, err := p.walk(p.root)
	if err != nil {
		return err
	}
	for _, leaf := range slices.Clone(leaves) {
		page, err := p.read(leaf)
		if err != nil {
			return err
		}
		checked, err := p.checkLeaf(page)
		if err != nil {
			return err
		}
		for name, root := range checked.buckets {
			if p.roots[name] = root; root == 0 {
				continue
			}
			leaves, err := p.walk(root)
			if err != nil {
				return err
			}
			p.leaves = append(p.leaves, leaves...)
		}
	}
	return nil
}

// checkUses goes before a write: a page that is on the list of free ones and goes on
// another one's leaf all the same would be written over. Pages that nobody has claimed yet
// are such continuations, of entries that are longer than a page; there are hardly any.
func (p *pageFile) checkUses() error {
	const metas = 2
	for _, leaf := range p.leaves {
		if p.used+metas >= p.pages {
			return nil
		}
		if p.isChecked(leaf) {
			continue
		}
		page, err := p.read(leaf)
		if err == nil && page.overflow > 0 {
			_, err = p.checkLeaf(page)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// walk claims the pages of a tree level by level and returns the leaves, valid
// until the next walk. All leaves of a B+ tree are on one level, so the first page
// of a level tells what the others must be.
func (p *pageFile) walk(root uint64) (leaves []uint64, err error) {
	if err := p.claim(root); err != nil {
		return nil, err
	}
	p.ids = append(p.ids[:0], root)
	for begin := 0; begin < len(p.ids); {
		end := len(p.ids)
		for i := begin; i < end; i++ {
			page, err := p.read(p.ids[i])
			if err != nil {
				return nil, err
			}
			if i == begin && page.flags == leafPage {
				return p.ids[begin:end], nil
			}
			if err = p.claimChildren(page); err != nil {
				return nil, err
			}
		}
		begin = end
	}
	return nil, fmt.Errorf("the tree of page %d has no leaves", root)
}

// claimChildren claims the pages below a branch page and appends them to p.ids.
func (p *pageFile) claimChildren(page pageView) error {
	if page.flags != branchPage || page.count == 0 || page.overflow != 0 {
		return page.damaged("is no branch of the tree")
	}
	if err := page.checkElements(); err != nil {
		return err
	}
	for at := pageHeader + 8; page.count > 0; at, page.count = at+elementSize, page.count-1 {
		id := binary.NativeEndian.Uint64(page.data[at:])
		if err := p.claim(id); err != nil {
			return err
		}
		p.ids = append(p.ids, id)
	}
	return nil
}

func (p *pageFile) checkFreelist() error {
	if err := p.claim(p.freelist); err != nil {
		return err
	}
	page, err := p.read(p.freelist)
	if err != nil {
		return err
	}
	if page.flags != freelistPage {
		return page.damaged("is not the list of free pages")
	}
	if page, err = p.whole(page); err != nil {
		return err
	}
	count, ids := uint64(page.count), page.data[pageHeader:]
	if page.count == 0xffff {
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return page.damaged("counts more free pages than it lists")
	}
	for i := range count {
		if err := p.claim(binary.NativeEndian.Uint64(ids[8*i:])); err != nil {
			return err
		}
	}
	return nil
}

// claim notes the one use of a page.
func (p *pageFile) claim(id uint64) error {
	word, bit := id/64, uint64(1)<<(id%64)
	if id < 2 || id >= p.pages || p.claimed[word]&bit != 0 {
		return fmt.Errorf("page %d of %d is out of place or has two uses", id, p.pages)
	}
	p.claimed[word] |= bit
	p.used++
	return nil
}

// pageView is a page in the shared buffer, valid until the next read.
type pageView struct {
	id                     uint64
	flags, count, overflow int
	data                   []byte
}

func (p *pageFile) read(id uint64) (pageView, error) {
	data := p.buffer[:p.pageSize]
	if _, err := p.file.ReadAt(data, int64(id)*int64(p.pageSize)); err != nil {
		return pageView{}, err
	}
	v := parsePage(data)
	if own := v.id; own != id {
		v.id = id
		return v, v.damaged(fmt.Sprintf("says that it is page %d", own))
	}
	return v, nil
}

func parsePage(data []byte) pageView {
	return pageView{
		id:       binary.NativeEndian.Uint64(data),
		flags:    int(binary.NativeEndian.Uint16(data[8:])),
		count:    int(binary.NativeEndian.Uint16(data[10:])),
		overflow: int(binary.NativeEndian.Uint32(data[12:])),
		data:     data,
	}
}

// whole reads the pages that v overflows into.
func (p *pageFile) whole(v pageView) (pageView, error) {
	if uint64(v.overflow) >= p.pages-v.id {
		return v, v.damaged("is longer than the file")
	}
	if v.overflow == 0 {
		return v, nil
	}
	for i := range v.overflow {
		if err := p.claim(v.id + uint64(i) + 1); err != nil {
			return v, err
		}
	}
	v.data = make([]byte, (v.overflow+1)*p.pageSize)
	_, err := p.file.ReadAt(v.data, int64(v.id)*int64(p.pageSize))
	return v, err
}

func (v pageView) damaged(how string) error { return fmt.Errorf("page %d %s", v.id, how) }
