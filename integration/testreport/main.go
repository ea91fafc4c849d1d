// Testreport reads `go test -json` and prints what a person wants to know of it:
// a line per package, the output of what failed, every skipped test with its
// reason, and the count. It exits with 1 when something failed or nothing ran. With
// -guests it reads what guests ran, which may be nothing: what they pass was not skipped.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/integration/guest"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// test is a test or, with an empty name, a package.
type test struct{ pkg, name string }

// full is a test's name with the last word of its package.
func (t test) full() string { return path.Base(t.pkg) + "." + t.name }

// report gathers a run.
type report struct {
	out                     io.Writer
	output                  map[test][]string
	failedIn                map[string]bool // packages
	passed, failed, skipped int
	done                    []string // tests that passed
	unfinished              map[test]bool
	skips                   []string
	err                     error // the first failure to print
}

func (r *report) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(r.out, format, args...); err != nil && r.err == nil {
		r.err = err
	}
}

func main() {
	skips := flag.String("skips", "", "append the skipped tests to this `file`")
	counts := flag.String("counts", "", "append the count to this `file`")
	guests := flag.Bool("guests", false, "take the tests that pass out of the file of the skipped ones")
	flag.Parse()
	r := newReport(os.Stdout)
	err := r.read(os.Stdin)
	if err == nil && *guests {
		err = removeSkips(*skips, r.done)
	}
	if err == nil {
		err = errors.Join(appendLines(*skips, r.skips), appendLines(*counts, []string{r.count()}))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if err != nil || r.failed > 0 || r.passed+r.skipped == 0 && !*guests {
		os.Exit(1)
	}
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[test][]string{}, failedIn: map[string]bool{}, unfinished: map[test]bool{}}
}

// read takes in a whole run and prints its summary.
func (r *report) read(from io.Reader) error {
	in := bufio.NewScanner(from)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		r.line(in.Bytes())
	}
	r.summary()
	return errors.Join(in.Err(), r.err)
}

// line takes in one event; what is no event is printed as it is.
func (r *report) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		r.printf("%s\n", line)
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		r.printf("%s", e.Output)
	case "run":
		r.unfinished[t] = true
	case "output":
		r.output[t] = append(r.output[t], e.Output)
	case "pass", "fail", "skip":
		delete(r.unfinished, t)
		r.end(t, e)
		delete(r.output, t)
	}
}

// end counts a finished test and prints what deserves to be seen.
func (r *report) end(t test, e event) {
	if t.name == "" {
		r.endPackage(t, e)
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
		r.done = append(r.done, t.full())
	case "fail":
		r.failed++
		r.failedIn[t.pkg] = true
		r.print(t)
	case "skip":
		r.skipped++
		r.skips = append(r.skips, t.full()+": "+r.reason(t))
	}
}

func (r *report) endPackage(t test, e event) {
	switch e.Action {
	case "pass":
		r.printf("ok    %s  %.1fs\n", t.pkg, e.Elapsed)
	case "fail":
		r.endUnfinished(t.pkg)
		r.print(t)
		r.printf("FAIL  %s  %.1fs\n", t.pkg, e.Elapsed)
		if !r.failedIn[t.pkg] {
			r.failed++ // it did not build, or died outside a test
		}
	}
}

// endUnfinished fails the tests of a package that it ended in the middle of.
func (r *report) endUnfinished(pkg string) {
	for _, t := range slices.SortedFunc(maps.Keys(r.unfinished), func(a, b test) int { return strings.Compare(a.name, b.name) }) {
		if t.pkg != pkg || t.name == "" {
			continue
		}
		delete(r.unfinished, t)
		r.failed++
		r.failedIn[pkg] = true
		r.print(t)
		delete(r.output, t)
		r.printf("--- FAIL: %s did not end\n", t.name)
	}
}

// long is how many lines of a failed test need a summary, and the most that one has.
const long = 20

// print prints what a failed test said. Where that is long, as with logs of all that took part, it ends
// with the first line of each thing said, for whoever sees nothing but the end.
func (r *report) print(t test) {
	lines := slices.DeleteFunc(r.output[t], func(line string) bool { return strings.HasPrefix(line, "=== ") })
	for _, line := range lines {
		if len(lines) > long && strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			for _, s := range said(lines) {
				r.printf("    in short: %s\n", s)
			}
		}
		r.printf("%s", line)
	}
}

// firstLine is how the testing package begins what a test says; what follows is indented more.
var firstLine = regexp.MustCompile(`^ {4,}\w+\.go:\d+: `)

// said is the first line of each thing that a test said.
func said(lines []string) (all []string) {
	for _, line := range lines {
		if firstLine.MatchString(line) {
			all = append(all, fmt.Sprintf("%.240s", strings.TrimSpace(line)))
		}
	}
	return all[max(0, len(all)-long):]
}

// reason is what the test said when it skipped, without the file and line.
func (r *report) reason(t test) string {
	for _, line := range r.output[t] {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") || line == "" {
			continue
		}
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok = strings.Cut(text, ": "); ok {
				return text
			}
		}
		return line
	}
	return "no reason given"
}

func (r *report) summary() {
	for _, s := range r.skips {
		r.printf("skipped: %s\n", s)
	}
	r.printf("%s\n", r.count())
}

func (r *report) count() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", r.passed, r.failed, r.skipped)
}

// removeSkips takes tests that guests have passed out of the file of the skipped ones.
func removeSkips(file string, passed []string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var rest strings.Builder
	for line := range strings.Lines(string(text)) {
		name, why, _ := strings.Cut(line, ": ")
		if !strings.HasPrefix(why, guest.Left) || !slices.Contains(passed, name) {
			rest.WriteString(line)
		}
	}
	return os.WriteFile(file, []byte(rest.String()), 0o644)
}

func appendLines(file string, lines []string) error {
	if file == "" || len(lines) == 0 {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, strings.Join(lines, "\n")+"\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
