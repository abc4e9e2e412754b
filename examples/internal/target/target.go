// Package target finds the service that an example is to reach.
package target

import (
	"flag"

	"github.com/knockgw/knockgw/client/profile"
)

// Flags are how an example is told which service to reach. They are flag's own, so that they are read after
// flag.Parse.
type Flags struct{ file, service *string }

// Define defines -profile and -service, whose default is given.
func Define(service string) Flags {
	return Flags{
		file:    flag.String("profile", "", "the profile's `file` (default: all that knockgw import has kept)"),
		service: flag.String("service", service, "the service's `name` in the profile"),
	}
}

// Find is the endpoint to the service.
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
