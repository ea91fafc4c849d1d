package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// The tables of the two files and their keys. NUL separates the parts of a key;
// names and ids never contain it.
const (
	metaTable = "meta" // both files: "file"

	switchTable  = "switches" // configuration: switch
	settingTable = "settings" // configuration: "macRange"; "hold" NUL address: MAC held for a VM

	portTable   = "ports"   // port NUL "p": the port; port NUL "l" lease key: that it holds the address
	memberTable = "members" // switch NUL port
	countTable  = "counts"  // switch: its number of ports; switch NUL: those that spoof, those on each further segment; switch NUL "v": VLANs of ports
	leaseTable  = "leases"  // scope NUL address: record
	restTable   = "rest"    // scope NUL pool number: address, the oldest released first
	poolTable   = "pools"   // scope NUL pool: poolState
	factTable   = "facts"   // the caller's key; "domain" NUL domain's UUID NUL port; "expected" NUL domain's UUID; "grant" NUL port NUL feature
)

// table is one bucket of a file. A table of no file is empty.
type table struct {
	file *file
	name string
}

func (f *file) table(name string) table { return table{file: f, name: name} }

// load decodes the value of key into v and reports whether there is one.
func (t table) load(key string, v any) (found bool, err error) {
	body, found, err := t.get(key)
	if !found || err != nil {
		return false, err
	}
	return true, t.decode(body, v)
}

// store encodes v as the value of key.
func (t table) store(key string, v any) error {
	if own, ok := v.(value); ok {
		return t.put(key, own.encode())
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	return t.put(key, body)
}

func (t table) decode(body []byte, v any) (err error) {
	if own, ok := v.(value); ok {
		err = own.decode(body)
	} else {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		return t.file.fault(fmt.Errorf("value in table %s: %w", t.name, err))
	}
	return nil
}

// get returns what put stored under key. The bytes live as long as the
// transaction and the table is not written to.
func (t table) get(key string) (body []byte, found bool, err error) {
	if t.file == nil {
		return nil, false, nil
	}
	if o := t.file.overlay; o != nil {
		if body, covers := o.rows[t.name][key]; covers || t.file.db == nil {
			return body, body != nil, nil
		}
	}
	defer t.file.recoverPage(&err)
	b, err := t.bucket()
	if err != nil {
		return nil, false, err
	}
	value := b.Get([]byte(key))
	if value == nil {
		if err = t.checkPath(key, false); err == nil {
			err = t.checkAbsent(b, []byte(key))
		}
		return nil, false, err
	}
	body, err = t.open([]byte(key), value)
	return body, err == nil, err
}

func (t table) put(key string, body []byte) (err error) {
	if err := t.checkWrite(key, false); err != nil {
		return err
	}
	if t.file.overlay != nil {
		t.file.overlay.put(t.name, key, body)
		return nil
	}
	defer t.file.recoverPage(&err)
	b, err := t.bucketFor([]byte(key))
	if err != nil {
		return err
	}
	return t.file.fault(b.Put([]byte(key), seal([]byte(key), body)))
}

// remove deletes key, which need not exist.
func (t table) remove(key string) (err error) {
	if err := t.checkWrite(key, true); err != nil {
		return err
	}
	if t.file.overlay != nil {
		t.file.overlay.remove(t.name, key)
		return nil
	}
	defer t.file.recoverPage(&err)
	b, err := t.bucketFor([]byte(key))
	if err != nil {
		return err
	}
	return t.file.fault(b.Delete([]byte(key)))
}

// row is what walk meets.
type row struct{ key, body []byte }

// errStop ends a walk early and is not an error.
var errStop = errors.New("stop")

// walk visits in order the rows from key from on whose key begins with prefix.
// visit must not write to the table.
func (t table) walk(prefix, from string, visit func(row) error) error {
	beneath := func(visit func(row) error) error { return t.walkFile(prefix, from, visit) }
	err := error(nil)
	if t.file != nil && t.file.overlay != nil {
		o := t.file.overlay
		err = o.merged(t.name, o.from(t.name, prefix, from), beneath, visit)
	} else {
		err = beneath(visit)
	}
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// walkFile is walk of what is in the file, and tells of errStop.
func (t table) walkFile(prefix, from string, visit func(row) error) (err error) {
	if t.file == nil || t.file.overlay != nil && t.file.db == nil {
		return nil
	}
	defer t.file.recoverPage(&err)
	b, err := t.bucket()
	if err != nil {
		return err
	}
	end, err := t.checkLeaves([]byte(from), []byte(from))
	if err != nil {
		return err
	}
	if from != "" {
		if _, err := t.checkAround(b, []byte(from)); err != nil {
			return err
		}
	}
	c := b.Cursor()
	key, value := c.Seek([]byte(from))
	for ; ; key, value = c.Next() {
		if end, err = t.checkLeaves(end, key); err != nil {
			return err
		}
		if key == nil || !bytes.HasPrefix(key, []byte(prefix)) {
			break
		}
		body, err := t.open(key, value)
		if err != nil {
			return err
		}
		if err := visit(row{key, body}); err != nil {
			return err
		}
	}
	if key != nil { // the first that is not of the prefix: it may have been
		_, err = t.open(key, value)
	}
	return err
}

// keys returns copies of the keys that begin with prefix, without it.
func (t table) keys(prefix string) ([]string, error) {
	var keys []string
	err := t.walk(prefix, prefix, func(r row) error {
		keys = append(keys, string(r.key[len(prefix):]))
		return nil
	})
	return keys, err
}

// sequence returns the table's next number, beginning with 1.
func (t table) sequence() (n uint64, err error) {
	if err := t.checkWrite("", false); err != nil {
		return 0, err
	}
	o := t.file.overlay
	if o != nil && t.file.db == nil {
		o.sequences[t.name]++
		return o.sequences[t.name], nil
	}
	defer t.file.recoverPage(&err)
	b, err := t.bucket()
	if err != nil {
		return 0, err
	}
	if o != nil {
		o.sequences[t.name]++
		return b.Sequence() + o.sequences[t.name], nil
	}
	n, err = b.NextSequence()
	return n, t.file.fault(err)
}

// checkWrite refuses to write where one may not, and onto a damaged page.
func (t table) checkWrite(key string, remove bool) error {
	if t.file != nil && t.file.overlay != nil {
		return nil
	}
	if t.file == nil || !t.file.writable {
		return fmt.Errorf("store: table %s is not writable in this transaction", t.name)
	}
	return t.checkPath(key, remove)
}

// checkPath looks whether an entry is missing on the page where key belongs.
func (t table) checkPath(key string, remove bool) error {
	if t.file.pages == nil {
		return nil
	}
	return t.file.fault(t.file.pages.checkPath(t.name, []byte(key), remove))
}

// checkAbsent proves, after checkPath, that key, which bbolt has not found, is not there.
func (t table) checkAbsent(b *bbolt.Bucket, key []byte) error {
	at, err := t.checkAround(b, key)
	if err == nil && bytes.Equal(at, key) {
		// It begins a leaf, and the branch above sends whoever asks for it to the leaf before.
		return t.disordered()
	}
	return err
}

// checkAround looks whether the search for key ends where it should, and returns the
// first key from there on. A flipped bit in a key hides its record: not from the search,
// which ends beside it all the same, but as one that was looked for; and one in the key of
// a branch sends the search to another leaf. So the entries on both sides must be sound,
// and in order.
func (t table) checkAround(b *bbolt.Bucket, key []byte) (at []byte, err error) {
	c := b.Cursor()
	at, value := c.Seek(key)
	if at != nil && bytes.Compare(at, key) < 0 {
		return nil, t.disordered()
	}
	var before []byte
	if at == nil {
		before, value = c.Last()
	} else if _, err := t.open(at, value); err != nil {
		return nil, err
	} else {
		before, value = c.Prev()
	}
	if before == nil {
		return at, nil
	}
	if bytes.Compare(before, key) >= 0 {
		return nil, t.disordered()
	}
	_, err = t.open(before, value)
	return at, err
}

func (t table) disordered() error {
	return t.file.fault(fmt.Errorf("the entries in table %s are out of order", t.name))
}

func (t table) bucket() (*bbolt.Bucket, error) {
	if t.file.tx == nil {
		return nil, errors.New("store: the transaction is over")
	}
	b := t.file.tx.Bucket([]byte(t.name))
	if b == nil {
		return nil, t.file.fault(fmt.Errorf("table %s is missing", t.name))
	}
	return b, nil
}

// checkLeaves goes along with a walk, which would not miss what the count of a leaf leaves
// out: it looks at each leaf from key next on, up to that of key to, nil for the last one.
// It returns the first key of the leaf that follows, nil if none does.
func (t table) checkLeaves(next, to []byte) ([]byte, error) {
	for next != nil && t.file.pages != nil && (to == nil || bytes.Compare(to, next) >= 0) {
		var err error
		if next, err = t.file.pages.checkLeafOf(t.name, next); err != nil {
			return nil, t.file.fault(err)
		}
	}
	return next, nil
}

// bucketFor is the bucket for a write of key. One that only seems to be absent would be
// written a second time, or stay when it is removed.
func (t table) bucketFor(key []byte) (*bbolt.Bucket, error) {
	b, err := t.bucket()
	if err == nil && t.file.pages != nil && b.Get(key) == nil {
		err = t.checkAbsent(b, key)
	}
	return b, err
}

// recoverPage turns the panic of bbolt over a damaged page, or the fault of
// reading one that is not there, into an error.
func (f *file) recoverPage(err *error) {
	if r := recover(); r != nil {
		*err = f.fault(fmt.Errorf("unreadable page: %v", r))
	}
}

const sealSize = 8

// seal puts a checksum of key and body before the body.
func seal(key, body []byte) []byte {
	value := make([]byte, sealSize, sealSize+len(body))
	binary.BigEndian.PutUint64(value, checksum(key, body))
	return append(value, body...)
}

func (t table) open(key, value []byte) ([]byte, error) {
	if len(value) < sealSize || binary.BigEndian.Uint64(value) != checksum(key, value[sealSize:]) {
		return nil, t.file.fault(fmt.Errorf("the checksum of an entry in table %s is wrong", t.name))
	}
	return value[sealSize:], nil
}

// checksum is FNV-1a. A CRC would do as well, but hash/crc32 makes its tables on
// first use: 0.2 ms for CRC-32C, as much as a whole transaction of a new process.
func checksum(key, body []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, part := range [][]byte{key, {0}, body} {
		for _, b := range part {
			h = (h ^ uint64(b)) * prime
		}
	}
	return h
}
