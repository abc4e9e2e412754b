#!/bin/sh
# Prints a pattern for `go test -run`: the tests of the package in DIR whose file
# calls testtool.Long or testtool.RequireLong.
#
#	test/long.sh DIR
set -eu
files=$(grep -lE 'testtool\.(Long|RequireLong)\(' "$1"/*_test.go)
# shellcheck disable=SC2086 # a list of files
echo "^($(sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' $files | paste -s -d '|'))\$"
