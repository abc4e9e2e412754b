package config

import "github.com/knockgw/knockgw/protocol"

// Secret is a client's secret, which nothing prints.
type Secret = protocol.Secret
