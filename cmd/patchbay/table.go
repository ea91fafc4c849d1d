package main

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// grid is rows of cells with a heading.
type grid struct {
	heading []string
	rows    [][]string
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// render aligns the columns; an empty cell shows as "-", so that every line has
// the same number of words.
func (g *grid) render(t terminal) string {
	widths := make([]int, len(g.heading))
	measure := func(cells []string) {
		for i, s := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(shown(s)))
		}
	}
	measure(g.heading)
	for _, r := range g.rows {
		measure(r)
	}
	var b strings.Builder
	b.WriteString(t.bold(aligned(g.heading, widths)) + "\n")
	for _, r := range g.rows {
		b.WriteString(aligned(r, widths) + "\n")
	}
	return b.String()
}

func aligned(cells []string, widths []int) string {
	var b strings.Builder
	for i, s := range cells {
		s = shown(s)
		b.WriteString(s)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(s)+2))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

func shown(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}

// number is a number of which 0 means none.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// printable replaces what would command the terminal instead of being shown.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// sheet is a list of fields, one a line: what `show` prints.
type sheet struct{ fields [][2]string }

func (s *sheet) add(name, value string) { s.fields = append(s.fields, [2]string{name, value}) }

// each adds a field with a line for each of its values.
func (s *sheet) each(name string, values []string) {
	if len(values) == 0 {
		s.add(name, "none")
	}
	for i, v := range values {
		if i > 0 {
			name = ""
		}
		s.add(name, v)
	}
}

func (s *sheet) render(t terminal) string {
	width := 0
	for _, f := range s.fields {
		width = max(width, utf8.RuneCountInString(f[0]))
	}
	var b strings.Builder
	for _, f := range s.fields {
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(f[0])+2)
		b.WriteString(t.bold(f[0]) + pad + shown(f[1]) + "\n")
	}
	return b.String()
}
