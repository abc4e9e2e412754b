package config

import "github.com/knockgw/knockgw/internal/strictyaml"

// Error is one error in a configuration, printed on one line: the position,
// what is wrong, and what to do. It never contains a secret.
type Error = strictyaml.Error
