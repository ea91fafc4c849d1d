//go:build !amd64

package handover

func before() earlier { return earlier{} }
