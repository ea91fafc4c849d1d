package plan

import "encoding/json"

// Steps is a plan that can be shown elsewhere: in JSON each step is its words, and
// what is read from JSON can be shown but not carried out.
type Steps []Step

// Words is a step of which only the words are known. No kernel carries it out.
type Words string

func (Words) step() {}

// String is the step's words.
func (w Words) String() string { return string(w) }

// MarshalJSON writes the words of each step.
func (s Steps) MarshalJSON() ([]byte, error) {
	words := make([]string, len(s))
	for i, step := range s {
		words[i] = step.String()
	}
	return json.Marshal(words)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Steps) UnmarshalJSON(data []byte) error {
	var words []Words
	if err := json.Unmarshal(data, &words); err != nil {
		return err
	}
	*s = nil
	for _, w := range words {
		*s = append(*s, w)
	}
	return nil
}
