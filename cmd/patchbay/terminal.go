package main

import (
	"os"
	"strings"
	"syscall"
	"unsafe"
)

// terminal is what stdout can show.
type terminal struct {
	columns int  // 0: not a terminal
	color   bool // a terminal, and nobody asked for none (https://no-color.org)
	unicode bool // the locale is UTF-8
}

func detectTerminal(f *os.File, getenv func(string) string) terminal {
	t := terminal{columns: columns(f), unicode: isUTF8(getenv)}
	t.color = t.columns > 0 && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return t
}

// columns asks a terminal for its width; 0 for anything else.
func columns(f *os.File) int {
	var size struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0
	}
	if size.columns == 0 {
		return 80 // a terminal that does not know, such as a serial line
	}
	return int(size.columns)
}

// isUTF8 reads the locale as setlocale(3) does: LC_ALL, LC_CTYPE, LANG.
func isUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

func (t terminal) paint(sequence, s string) string {
	if !t.color || s == "" {
		return s
	}
	return sequence + s + "\x1b[0m"
}

func (t terminal) bold(s string) string   { return t.paint("\x1b[1m", s) }
func (t terminal) green(s string) string  { return t.paint("\x1b[32m", s) }
func (t terminal) red(s string) string    { return t.paint("\x1b[31m", s) }
func (t terminal) yellow(s string) string { return t.paint("\x1b[33m", s) }
