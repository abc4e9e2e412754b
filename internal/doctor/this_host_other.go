//go:build !linux

package doctor

import "github.com/knockgw/knockgw/config"

// addQueries sets nothing: the other queries are supported on Linux only.
func (*Host) addQueries(*config.Config) {}
