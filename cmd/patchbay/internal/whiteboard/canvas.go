package whiteboard

import (
	"strings"
	"unicode"
)

// tone is how a cell looks where the terminal has colours.
type tone int

const (
	plain  tone = iota
	strong      // names
	faint       // what is there to be looked up
	frame       // a switch's own lines
	cloud       // the world outside
	good        // a link that is up
	bad         // a link that is down, a NIC that is missing
)

// ansi are the escape sequences of the tones.
func (t tone) ansi() string {
	return [...]string{plain: "", strong: "\x1b[1m", faint: "\x1b[2m", frame: "\x1b[36m", cloud: "\x1b[34m", good: "\x1b[32m", bad: "\x1b[31m"}[t]
}

type cell struct {
	r rune
	t tone
}

// canvas is a sheet that grows to the right and downwards as it is drawn on.
type canvas struct{ rows [][]cell }

func (c *canvas) put(x, y int, r rune, t tone) {
	for len(c.rows) <= y {
		c.rows = append(c.rows, nil)
	}
	for len(c.rows[y]) <= x {
		c.rows[y] = append(c.rows[y], cell{r: ' '})
	}
	c.rows[y][x] = cell{r, t}
}

// write puts s on one line and returns the column behind it.
func (c *canvas) write(x, y int, s string, t tone) int {
	for _, r := range s {
		c.put(x, y, r, t)
		x++
	}
	return x
}

// pen is a kind of line with its corners.
type pen struct {
	horizontal, vertical    rune
	topLeft, topRight       rune
	bottomLeft, bottomRight rune
	leftJoin, rightJoin     rune // a thin line meets the side
	bottomJoin              rune // a thin line leaves below
	tone                    tone
}

func thin() pen { return pen{'─', '│', '┌', '┐', '└', '┘', '┤', '├', '┬', plain} }

func heavy() pen { return pen{'━', '┃', '┏', '┓', '┗', '┛', '┨', '┠', '┯', frame} }

func broken() pen { return pen{'┅', '┇', '┏', '┓', '┗', '┛', '┨', '┠', '┯', frame} }

func dotted() pen { return pen{'┄', '┊', '╭', '╮', '╰', '╯', '┤', '├', '┬', cloud} }

// rect is a box's place, its border included.
type rect struct{ x, y, w, h int }

func (r rect) right() int  { return r.x + r.w - 1 }
func (r rect) bottom() int { return r.y + r.h - 1 }

func (c *canvas) box(r rect, p pen) {
	for x := r.x + 1; x < r.right(); x++ {
		c.put(x, r.y, p.horizontal, p.tone)
		c.put(x, r.bottom(), p.horizontal, p.tone)
	}
	for y := r.y + 1; y < r.bottom(); y++ {
		c.put(r.x, y, p.vertical, p.tone)
		c.put(r.right(), y, p.vertical, p.tone)
	}
	c.put(r.x, r.y, p.topLeft, p.tone)
	c.put(r.right(), r.y, p.topRight, p.tone)
	c.put(r.x, r.bottom(), p.bottomLeft, p.tone)
	c.put(r.right(), r.bottom(), p.bottomRight, p.tone)
}

// across draws a thin line from x1 to x2, both included.
func (c *canvas) across(x1, x2, y int) {
	for x := x1; x <= x2; x++ {
		c.put(x, y, '─', plain)
	}
}

// down draws a thin line from y1 to y2, both included.
func (c *canvas) down(x, y1, y2 int) {
	for y := y1; y <= y2; y++ {
		c.put(x, y, '│', plain)
	}
}

// height is the first row that nothing is drawn on.
func (c *canvas) height() int { return len(c.rows) }

// render writes the sheet, no line longer than s.Columns.
func (c *canvas) render(s Style) string {
	var b strings.Builder
	for _, row := range c.rows {
		for len(row) > 0 && row[len(row)-1].r == ' ' {
			row = row[:len(row)-1]
		}
		if len(row) > s.Columns {
			row = append(row[:s.Columns-1:s.Columns-1], cell{r: '…'})
		}
		now := plain
		for _, cell := range row {
			if s.Color && cell.t != now && cell.r != ' ' {
				b.WriteString("\x1b[0m" + cell.t.ansi())
				now = cell.t
			}
			b.WriteRune(s.glyph(cell.r))
		}
		if now != plain {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// glyph is how a character is shown: as it is, or the nearest in ASCII.
func (s Style) glyph(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	if !s.ASCII || r < unicode.MaxASCII {
		return r
	}
	switch r {
	case '─', '╌':
		return '-'
	case '│':
		return '|'
	case '┌', '┐', '└', '┘', '├', '┤', '┬', '┴', '┼', '┯':
		return '+'
	case '━':
		return '='
	case '┃', '┏', '┓', '┗', '┛', '┨', '┠':
		return '#'
	case '┅', '┄', '╭', '╮':
		return '.'
	case '┇', '┊':
		return ':'
	case '╰', '╯':
		return '\''
	case '╳':
		return 'X'
	case '…':
		return '~'
	}
	return '?'
}
