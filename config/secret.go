package config

import "github.com/knockgw/knockgw/protocol"

// Secret is a client's secret. Its formatting methods never print it.
type Secret = protocol.Secret
