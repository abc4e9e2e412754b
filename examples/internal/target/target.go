// Package target finds the service that an example connects to.
package target

import (
	"flag"

	"github.com/knockgw/knockgw/client/profile"
)

// Flags select the service of an example. They point to values of package flag,
// which flag.Parse sets.
type Flags struct{ file, service *string }

// Define defines -profile and -service, with service as the default of the
// latter.
func Define(service string) Flags {
	return Flags{
		file:    flag.String("profile", "", "the profile's `file` (default: all profiles that knockgw import stored)"),
		service: flag.String("service", service, "the service's `name` in the profile"),
	}
}

// Find returns the endpoint of the service.
func (f Flags) Find() (*profile.Endpoint, error) {
	if *f.file != "" {
		p, err := profile.Load(*f.file)
		if err != nil {
			return nil, err
		}
		return p.Find(*f.service)
	}
	dir, err := profile.DefaultDirectory()
	if err != nil {
		return nil, err
	}
	return dir.Find(*f.service)
}
