// Package host runs vendors' plugins: it starts their programs, keeps them alive, and stands
// between them and whoever needs them.
//
// A plugin that crashes, hangs, answers nonsense or floods costs the calls that it was to
// answer, and nothing else: calls have deadlines, messages and logs are bounded, answers are
// held against the contract (sdk.Client), and a plugin that goes on failing is left alone
// for a while (Plugin).
package host
