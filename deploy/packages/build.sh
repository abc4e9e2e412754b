#!/bin/sh
# Builds packages for Debian and Red Hat, and tarballs, in a directory. The same commit, version and Go version produce
# the same bytes.
#
#	deploy/packages/build.sh DIRECTORY VERSION ARCHITECTURE...
#
# It exits with 87 if the packager cannot be installed.
set -eu

out=$1 version=$2
shift 2
cd "$(dirname "$0")/../.."
go=${GO:-go}
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
umask 022

# The build information of the program: the commit, and whether the working tree was modified.
build=github.com/knockgw/knockgw/internal/buildinfo
commit=$(git rev-parse HEAD 2>/dev/null || true)
dirty=$(if [ -n "$commit" ] && ! git diff --quiet HEAD; then echo true; fi)
ldflags="-X $build.version=$version -X $build.commit=$commit -X $build.dirty=$dirty -X $build.epoch=$SOURCE_DATE_EPOCH"

mkdir -p "$out"
out=$(cd "$out" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

"$go" run -tags gen -ldflags "$ldflags" ./cmd/knockgw gen "$stage"
gzip -n9 "$stage"/man/*
# Debian requires a changelog. CHANGELOG.md has the changes.
gzip -n9 >"$stage/changelog.gz" <<END
knockgw ($version-1) unstable; urgency=medium

  * Version $version.

 -- the knockgw authors <knockgw@localhost>  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END

# The packager is not a dependency of the module.
GOFLAGS=-mod=mod GOBIN="$stage/bin" "$go" install "$nfpm" || exit 87

for arch in "$@"; do
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch "$go" build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= $ldflags" -o "$stage/knockgw" ./cmd/knockgw
	# In parallel, since compression takes most of the time.
	ARCH=$arch VERSION=$version STAGE=$stage \
		"$stage/bin/nfpm" package --config deploy/packages/nfpm.yaml --packager rpm --target "$out" &
	ARCH=$arch VERSION=$version STAGE=$stage \
		"$stage/bin/nfpm" package --config deploy/packages/nfpm.yaml --packager deb --target "$out"
	wait $!

	name=knockgw-$version-linux-$arch
	mkdir -p "$stage/$name/scripts"
	cp -R "$stage/knockgw" "$stage/man" "$stage/completions" deploy/systemd deploy/examples deploy/prometheus \
		deploy/grafana deploy/packages/install.sh LICENSE README.md "$stage/$name"
	cp deploy/packages/postinstall.sh deploy/packages/preremove.sh "$stage/$name/scripts"
	rm "$stage/$name/prometheus/knockgw_test.yaml"
	mkdir "$stage/$name/docs"
	cp docs/*.md "$stage/$name/docs"
	find "$stage/$name" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --format=gnu -cf - "$name" | gzip -n9 >"$out/$name.tar.gz"
	rm -rf "${stage:?}/$name"
done
