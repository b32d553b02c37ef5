package storetest

import "testing"

func (h Harness) histories(t *testing.T)  {}
func (h Harness) contention(t *testing.T) {}
func (h Harness) faults(t *testing.T)     {}
