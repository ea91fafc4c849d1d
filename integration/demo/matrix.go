package main

import (
	"fmt"
	"os"

	"github.com/patchbay-net/patchbay/integration/lab"
)

// printMatrix prints who reaches whom, and returns how many answers are wrong.
// A cell stands for both address families.
func printMatrix(l *lab.Lab, cells []lab.Cell) int {
	type pair struct{ from, to string }
	expected, wrong := map[pair]bool{}, map[pair]bool{}
	var details []string
	for _, c := range cells {
		p := pair{c.From.Name, c.To.Name}
		expected[p] = c.Want
		if !c.Ok() {
			wrong[p] = true
			details = append(details, fmt.Sprintf("  %s -> %s (%s): expected %s, but %s", c.From.Name, c.To.Name, c.Dst, reachWord(c.Want), because(c)))
		}
	}
	fmt.Println(bold("Who reaches whom, by ping over IPv4 and IPv6: expected, and whether it is so"))
	fmt.Printf("\n  %-10s", "from \\ to")
	for _, to := range l.Points {
		fmt.Printf("%-10s", to.Name)
	}
	fmt.Println()
	for _, from := range l.Points {
		fmt.Printf("  %-10s", from.Name)
		for _, to := range l.Points {
			p := pair{from.Name, to.Name}
			switch {
			case from.Name == to.Name:
				fmt.Printf("%-10s", "-")
			case wrong[p]:
				fmt.Printf("%-4s%s  ", yesNo(expected[p]), red("FAIL"))
			default:
				fmt.Printf("%-4s%s  ", yesNo(expected[p]), green("PASS"))
			}
		}
		fmt.Println()
	}
	fmt.Print(`
  lan: External on eth0, with the outside network. nat: Internal, leaves under the host's address.
  box: Private, closed even to a host that puts addresses on the bridge itself.
`)
	for _, d := range details {
		fmt.Println(red(d))
	}
	return len(details)
}

func because(c lab.Cell) string {
	if c.Err != nil {
		return c.Err.Error()
	}
	return "it answered"
}

func reachWord(reach bool) string {
	if reach {
		return "an answer"
	}
	return "no answer"
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func bold(s string) string  { return style("1", s) }
func green(s string) string { return style("32", s) }
func red(s string) string   { return style("31", s) }

// style colours text where a person looks at it.
func style(code, s string) string {
	if info, err := os.Stdout.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("NO_COLOR") != "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
