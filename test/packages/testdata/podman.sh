#!/bin/sh
# Builds the image of deploy/container and runs it as docs/install.md says to, in network and mount namespaces of its own:
#
#	podman.sh DIRECTORY PROGRAM CONTAINERFILE EXAMPLE COMMAND
#
# COMMAND is the document's `podman run`, whose own directories are replaced by ones in DIRECTORY.
set -eux

dir=$1 program=$2 recipe=$3 example=$4 command=$5
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs run /run
# The runtime takes one hierarchy of cgroups only, which a machine with several has as well.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
ip address add 192.0.2.22/32 dev lo
socat TCP-LISTEN:22,bind=192.0.2.22,fork,reuseaddr EXEC:cat &

engine() { tool=$1; shift; "$tool" --storage-driver vfs --root "$dir/images" --runroot /run/images "$@"; }
mkdir -p "$dir/image" "$dir/etc" "$dir/var"
cp "$program" "$dir/image/knockgw"
cp "$recipe" "$dir/image/Containerfile"
engine buildah build --isolation chroot -t knockgw "$dir/image"

sed '/^control:/d' "$example" >"$dir/etc/knockgw.yaml"
"$program" keygen --out "$dir/etc/alice.key"
cp "$dir/etc/alice.key" "$dir/alice.key"
chown -R 65532:65532 "$dir/etc" "$dir/var"
command=$(echo "$command" | sed "s|-v /etc/knockgw:|-v $dir/etc:|; s|-v /var/lib/knockgw:|-v $dir/var:|; s|^podman run||")
# What this machine's limits and missing services ask for, and no right.
# shellcheck disable=SC2086
engine podman --cgroup-manager cgroupfs --events-backend none run --rm --cgroups=disabled \
	--ulimit nofile=1024:1024 --ulimit nproc=4096:4096 $command >"$dir/log" 2>&1 &
podman=$!
for try in $(seq 300); do
	grep -q msg=ready "$dir/log" && break
	kill -0 $podman || break
	sleep 0.1
done
grep msg=ready "$dir/log" || { cat "$dir/log"; exit 1; }
test "$(echo hello | "$program" connect 10.77.0.1:22 --client alice --secret-file "$dir/alice.key")" = hello
status=$(cat /proc/"$(pgrep -f '^/knockgw run')"/status)
echo "$status" | grep -w Uid: | grep -w 65532
echo "$status" | grep 'CapEff:.*0000000000000000'
echo "$status" | grep 'Seccomp:.*2'
pkill -TERM -f '^/knockgw run'
wait $podman
grep msg=stopping "$dir/log"
echo all is well
