package boot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// initrd is a file system in cpio's "newc" format.
type initrd struct {
	bytes.Buffer
	inode int
}

// Initrd is the first file system of a guest: the program that becomes its process 1,
// and the modules that it loads with Early before it has its root.
func Initrd(program, modules string) ([]byte, error) {
	var r initrd
	for _, dir := range []string{"dev", "early", "proc", "sys"} {
		r.add(dir, 0o40755, nil)
	}
	files, err := filepath.Glob(filepath.Join(modules, "*.ko"))
	if err != nil {
		return nil, err
	}
	names := map[string]string{"init": program}
	for _, f := range files {
		names["early/"+filepath.Base(f)] = f
	}
	for name, from := range names {
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		r.add(name, 0o100755, content)
	}
	r.add("TRAILER!!!", 0, nil)
	return r.Bytes(), nil
}

func (r *initrd) add(name string, mode int, content []byte) {
	r.inode++
	_, _ = fmt.Fprintf(r, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		r.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	r.WriteString(name + "\x00")
	r.pad()
	r.Write(content)
	r.pad()
}

func (r *initrd) pad() {
	for r.Len()%4 != 0 {
		r.WriteByte(0)
	}
}
