#!/bin/sh
# Installs the files next to it, as root, on systems without a suitable package: the program, the service, the manual
# pages and the account. If knockgw is installed already, it is upgraded, and the service restarted if it is running.
#
#	./install.sh            into /usr/local
#	./install.sh remove     stops the service and removes everything except configuration, secrets, state and account
set -eu

cd "$(dirname "$0")"
prefix=/usr/local
units=/etc/systemd/system
networkd=/etc/systemd/networkd.conf.d

put() { install -D -m "$1" "$2" "$3"; }

case "${1:-install}" in
install)
	put 755 knockgw $prefix/bin/knockgw
	put 644 systemd/sysusers.conf $prefix/lib/sysusers.d/knockgw.conf
	put 644 systemd/tmpfiles.conf $prefix/lib/tmpfiles.d/knockgw.conf
	mkdir -p $units/sysinit.target.wants
	for unit in knockgw knockgw-hold; do
		sed "s|/usr/bin/knockgw|$prefix/bin/knockgw|; s|/usr/bin |$prefix/bin |" systemd/$unit.service >$units/$unit.service
		chmod 644 $units/$unit.service
	done
	ln -sf ../knockgw-hold.service $units/sysinit.target.wants/knockgw-hold.service
	put 644 systemd/networkd.conf $networkd/50-knockgw.conf
	for page in man/*; do
		section=${page%.gz}
		put 644 "$page" "$prefix/share/man/man${section##*.}/${page##*/}"
	done
	put 644 completions/knockgw.bash $prefix/share/bash-completion/completions/knockgw
	put 644 completions/_knockgw $prefix/share/zsh/site-functions/_knockgw
	put 644 completions/knockgw.fish $prefix/share/fish/vendor_completions.d/knockgw.fish
	for file in docs/*.md LICENSE; do
		put 644 "$file" "$prefix/share/doc/knockgw/${file##*/}"
	done
	for file in examples/* prometheus/* grafana/*; do
		put 644 "$file" "$prefix/share/doc/knockgw/examples/${file#examples/}"
	done
	exec sh scripts/postinstall.sh configure
	;;
remove)
	PATH=$prefix/bin:$PATH sh scripts/preremove.sh remove
	rm -f $prefix/bin/knockgw $prefix/lib/sysusers.d/knockgw.conf $prefix/lib/tmpfiles.d/knockgw.conf \
		$units/knockgw.service $units/knockgw-hold.service $units/sysinit.target.wants/knockgw-hold.service $networkd/50-knockgw.conf \
		$prefix/share/man/man?/knockgw*.gz $prefix/share/bash-completion/completions/knockgw \
		$prefix/share/zsh/site-functions/_knockgw $prefix/share/fish/vendor_completions.d/knockgw.fish
	rm -rf $prefix/share/doc/knockgw
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	;;
*)
	echo "usage: ./install.sh [remove]" >&2
	exit 2
	;;
esac
