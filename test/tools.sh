#!/bin/sh
# Installs Debian's packages of the programs that are named, where they are
# missing and where that is possible. Tests whose program is missing skip, or
# fail in CI, and say so. No service that comes with a package is started.
#
#	test/tools.sh PROGRAM[:PACKAGE]...
#
# PROGRAM is a name in PATH, or a pattern of paths that begins with /; without
# PACKAGE the package is called like the program.
set -eu

# installed PROGRAM reports whether it is installed.
installed() {
	case $1 in
	/*) # shellcheck disable=SC2086 # a pattern
		ls $1 ;;
	*) command -v "$1" ;;
	esac >/dev/null 2>&1
}

PATH=$PATH:/usr/sbin:/sbin
missing=
for tool in "$@"; do
	installed "${tool%%:*}" || missing="$missing ${tool##*:}"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
	echo "not installed, and not installable here:$missing" >&2
	exit 0
fi
echo "installing what tests need:$missing" >&2
apt-get update -qq
# Keep packages from starting their servers, which are not those of the tests.
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
