package config

import (
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/knockgw/knockgw/internal/strictyaml"
)

// Socket returns control.socket of the file at path, or "" if it has none. It
// ignores other errors in the file: the caller asks the running gateway, and
// may not be permitted to read the secret files.
func Socket(path string) (string, error) {
	f, err := os.Open(path) // the operator names it
	if err != nil {
		return "", &Error{File: path, Msg: cannotRead(err), Err: err}
	}
	defer f.Close() //nolint:errcheck // read only
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
		return "", nil //nolint:nilerr // the gateway reports it better
	}

	socket := file.Control.Socket.Value
	if filepath.IsAbs(socket) {
		return socket, nil
	}
	return filepath.Abs(filepath.Join(filepath.Dir(path), socket))
}
