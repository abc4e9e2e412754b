package config

import (
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/internal/strictyaml"
)

// Socket returns control.socket of the file at path, empty if it has none, and
// whatever else is wrong in the file: the running gateway is to be asked about
// that, by somebody who may not read the secrets that it names.
func Socket(path string) (string, error) {
	f, err := os.Open(path) // the operator names it
	if err != nil {
		return "", &Error{File: path, Msg: cannotRead(err), Err: err}
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return "", &Error{File: path, Msg: cannotRead(err), Err: err}
	}
	r := strictyaml.NewReport(path)
	root := r.Read(data)
	if root == nil {
		return "", r.Err()
	}
	var file struct {
		Control struct {
			Socket yaml.Node `yaml:"socket"`
		} `yaml:"control"`
	}
	if err := root.Decode(&file); err != nil || file.Control.Socket.Value == "" {
		return "", nil //nolint:nilerr // the gateway will say it better
	}
	socket := file.Control.Socket.Value
	if filepath.IsAbs(socket) {
		return socket, nil
	}
	return filepath.Abs(filepath.Join(filepath.Dir(path), socket))
}
