package config

import "github.com/knockgw/knockgw/internal/strictyaml"

// Error is one mistake in a configuration, in one line: what is wrong, where, and what to do about it.
// It never has a secret in it.
type Error = strictyaml.Error
