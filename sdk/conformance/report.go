package conformance

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"time"

	"github.com/patchbay-net/patchbay/sdk"
)

// Outcome is how a check ended.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // there is nothing to try it with; Detail says what is missing
)

// Result is one check's.
type Result struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	// Detail is what went wrong, or why the check was skipped.
	Detail  string  `json:"detail,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Report is what a run found out.
type Report struct {
	Plugin   *sdk.Description `json:"plugin,omitempty"` // nil for one that did not start
	Protocol int              `json:"protocol"`         // the version that was tried
	Results  []Result         `json:"results"`
}

// Count is how many checks ended so.
func (r Report) Count(o Outcome) int {
	n := 0
	for _, result := range r.Results {
		if result.Outcome == o {
			n++
		}
	}
	return n
}

// Conforms reports that nothing failed and something passed.
func (r Report) Conforms() bool { return r.Count(Failed) == 0 && r.Count(Passed) > 0 }

// WriteJSON writes the report as an object.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string    `xml:"classname,attr"`
	Name    string    `xml:"name,attr"`
	Time    string    `xml:"time,attr"`
	Failure *junitMsg `xml:"failure"`
	Skipped *junitMsg `xml:"skipped"`
}

type junitMsg struct {
	Message string `xml:"message,attr"`
}

// WriteJUnit writes the report as CI systems read it.
func (r Report) WriteJUnit(w io.Writer) error {
	name := "plugin"
	if r.Plugin != nil {
		name = r.Plugin.Name
	}
	suite := junitSuite{Name: "patchbay-plugin-" + name, Tests: len(r.Results), Failures: r.Count(Failed), Skipped: r.Count(Skipped)}
	var all time.Duration
	for _, result := range r.Results {
		took := time.Duration(result.Seconds * float64(time.Second))
		all += took
		c := junitCase{Class: suite.Name, Name: result.Name, Time: fmt.Sprintf("%.3f", took.Seconds())}
		switch result.Outcome {
		case Failed:
			c.Failure = &junitMsg{result.Detail}
		case Skipped:
			c.Skipped = &junitMsg{result.Detail}
		}
		suite.Cases = append(suite.Cases, c)
	}
	suite.Time = fmt.Sprintf("%.3f", all.Seconds())
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
