package card_test

import (
	"testing"

	"github.com/patchbay-net/patchbay/plugins/example/card"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Test(t, conformance.InMemory(func() sdk.Provider { return card.New() }), conformance.Options{})
}
