package store

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"
)

// element is one entry of a branch or leaf page.
type element struct {
	flags      uint32
	page       uint64 // branch: the page below
	begin      int    // where its key is on the page
	key, value []byte
}

// element takes entry i apart; ok is false if it does not lie within the page.
func (v pageView) element(i int) (e element, ok bool) {
	at := uint64(pageHeader + elementSize*i)
	if at+elementSize > uint64(len(v.data)) {
		return e, false
	}
	word := func(offset uint64) uint64 { return uint64(binary.NativeEndian.Uint32(v.data[at+offset:])) }
	var begin, key, value uint64
	if v.flags == branchPage {
		begin, key = at+word(0), word(4)
		e.page = binary.NativeEndian.Uint64(v.data[at+8:])
	} else {
		e.flags = uint32(word(0))
		begin, key, value = at+word(4), word(8), word(12)
	}
	if key == 0 || begin+key+value > uint64(len(v.data)) {
		return e, false
	}
	e.begin = int(begin)
	e.key, e.value = v.data[begin:begin+key], v.data[begin+key:begin+key+value]
	return e, true
}

// checkElements demands that every entry lies within the page, and that they follow each
// other without a gap, the first right behind the list of them: then none is missing.
// Without a list the rest of the page is blank: bbolt writes on cleared memory.
func (v pageView) checkElements() error {
	if v.count == 0 && slices.ContainsFunc(v.data[pageHeader:], func(b byte) bool { return b != 0 }) {
		return v.damaged("has lost its entries")
	}
	next := pageHeader + elementSize*v.count
	for i := range v.count {
		e, ok := v.element(i)
		if !ok {
			return v.damaged("has an entry that does not lie on it")
		}
		if e.begin != next {
			return v.damaged("has lost an entry")
		}
		next += len(e.key) + len(e.value)
	}
	return nil
}

// leafView is a leaf page that has been checked.
type leafView struct {
	pageView
	buckets map[string]uint64 // buckets on the page and their root pages; 0: inside the leaf
}

// checkLeaf checks a leaf page and reads what it overflows into.
func (p *pageFile) checkLeaf(page pageView) (leafView, error) {
	v := leafView{pageView: page}
	if v.flags != leafPage {
		return v, v.damaged("is no leaf of the tree")
	}
	var err error
	if v.pageView, err = p.whole(page); err != nil {
		return v, err
	}
	if err := v.checkElements(); err != nil {
		return v, err
	}
	for i := range v.count {
		e, _ := v.element(i)
		if e.flags != bucketFlag {
			continue
		}
		if err := v.addBucket(e); err != nil {
			return v, err
		}
	}
	p.checked[v.id/64] |= 1 << (v.id % 64)
	return v, nil
}

// addBucket notes a bucket. A small one is kept inside the leaf, as a page behind
// the bucket's header.
func (v *leafView) addBucket(e element) error {
	if len(e.value) < bucketHeader {
		return v.damaged("has a bucket that is cut off")
	}
	root := binary.NativeEndian.Uint64(e.value)
	if v.buckets == nil {
		v.buckets = map[string]uint64{}
	}
	v.buckets[string(e.key)] = root
	if root != 0 {
		return nil
	}
	inner := e.value[bucketHeader:]
	if len(inner) < pageHeader {
		return v.damaged("has a bucket that is cut off")
	}
	page := parsePage(inner)
	if page.flags != leafPage {
		return v.damaged("has a bucket without a leaf")
	}
	return page.checkElements()
}

// checkPath checks the leaf that a write of key will touch and, where the key is
// removed, the two beside it, which bbolt may join with it.
func (p *pageFile) checkPath(bucket string, key []byte, remove bool) error {
	id := p.roots[bucket]
	if id == 0 {
		return nil // inside a leaf that is checked, or not there
	}
	var beside []uint64
	for !p.isChecked(id) {
		page, err := p.read(id)
		if err != nil {
			return err
		}
		if page.flags == leafPage {
			if _, err := p.checkLeaf(page); err != nil {
				return err
			}
			break
		}
		if id, beside = page.below(key); id == 0 {
			return page.damaged("is no branch of the tree")
		}
	}
	if !remove {
		return nil
	}
	for _, id := range beside {
		if p.isChecked(id) {
			continue
		}
		page, err := p.read(id)
		if err != nil {
			return err
		}
		if _, err := p.checkLeaf(page); err != nil {
			return err
		}
	}
	return nil
}

// checkLeafOf checks the leaf that key belongs to and returns the first key of the one
// behind it, nil if there is none.
func (p *pageFile) checkLeafOf(bucket string, key []byte) (behind []byte, err error) {
	id := p.roots[bucket]
	for id != 0 && !p.isChecked(id) {
		page, err := p.read(id)
		if err != nil {
			return nil, err
		}
		if page.flags == leafPage {
			_, err := p.checkLeaf(page)
			return behind, err
		}
		at := page.find(key)
		if at+1 < page.count {
			e, _ := page.element(at + 1)
			behind = bytes.Clone(e.key)
		}
		e, _ := page.element(at)
		if id = e.page; id == 0 {
			return nil, page.damaged("is no branch of the tree")
		}
	}
	return behind, nil
}

func (p *pageFile) isChecked(id uint64) bool { return p.checked[id/64]&(1<<(id%64)) != 0 }

// find returns the entry of a branch page that key belongs below, as bbolt finds it.
func (v pageView) find(key []byte) int {
	at := sort.Search(v.count, func(i int) bool {
		e, _ := v.element(i)
		return bytes.Compare(e.key, key) > 0
	})
	return max(at-1, 0)
}

// below returns the page below a branch page that key belongs to, and those to its left
// and right.
func (v pageView) below(key []byte) (id uint64, beside []uint64) {
	at := v.find(key)
	for i := max(at-1, 0); i <= min(at+1, v.count-1); i++ {
		if e, _ := v.element(i); i == at {
			id = e.page
		} else {
			beside = append(beside, e.page)
		}
	}
	return id, beside
}
