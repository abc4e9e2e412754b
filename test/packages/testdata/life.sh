#!/bin/sh
# The life of the service under systemd, from the package's installation to its purge. It runs as root of a small system
# that was booted for it, /root/knockgw.deb in it, and stops at the first thing that is not as it ought to be.
set -eux

version=$(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')
journal() { journalctl --no-pager -o cat -u knockgw "$@"; }
show() { systemctl show -P "$1" knockgw; }
said() {
	for try in $(seq 50); do
		journal -n "$1" | grep -F "$2" && return
		sleep 0.1
	done
	journal -n 30
	return 1
}
blackholed() { ip route show proto 107 | grep blackhole; }
restarted() { # since it was that process
	for try in $(seq 100); do
		now=$(show MainPID)
		test "$now" != "$1" && test "$now" != 0 && systemctl is-active knockgw && return
		blackholed # all the while
		sleep 0.1
	done
	journal -n 30
	return 1
}

# Somewhere to go to.
ip link set lo up
ip address add 192.0.2.22/32 dev lo
socat TCP-LISTEN:22,bind=192.0.2.22,fork,reuseaddr EXEC:cat &
session() { knockgw connect 10.77.0.1:22 --client alice --secret-file /etc/knockgw/alice.key; }

# Nothing is started, and nothing can be before there is a configuration.
dpkg -i /root/knockgw.deb
test "$(show ActiveState)" = inactive
systemctl start knockgw
test "$(show ConditionResult)" = no
systemd-analyze --man=no verify knockgw.service 2>&1 | grep knockgw.service | grep -v notify-reload && exit 1

# A mistake in it fails the start, says where it is, and is not tried again.
cd /etc/knockgw
cp /usr/share/doc/knockgw/examples/knockgw.yaml .
knockgw keygen --out alice.key
chown knockgw: knockgw.yaml
chmod 600 knockgw.yaml
cp -p knockgw.yaml good.yaml
sed -i 's/mode: .*/mode: nonsense/' knockgw.yaml
systemctl start knockgw && exit 1
said 9 'knockgw.yaml:20: services[0].mode: "nonsense" is not a mode'
test "$(show NRestarts) $(show ExecMainStatus)" = '0 78'
cp -p good.yaml knockgw.yaml

# It is active when it is ready, as its own user, without a right that it does not need.
systemctl enable knockgw
systemctl start knockgw
journal -n 9 | grep msg=ready
test "$(show StatusText)" = Protecting
status=$(cat /proc/"$(show MainPID)"/status)
echo "$status" | grep -w Uid: | grep -w "$(id -u knockgw)"
echo "$status" | grep 'CapEff:.*0000000000000000'
echo "$status" | grep 'Seccomp:.*2'
journal | grep 'dropped in user space' && exit 1 # so CAP_BPF was there
test "$(echo hello | session)" = hello

# A reload is refused or done. Systemd before 253 has no way to ask for it.
if [ "$version" -ge 253 ]; then
	sed -i 's/mode: .*/mode: nonsense/' knockgw.yaml
	systemctl reload knockgw
	said 9 'configuration rejected; keeping the previous one'
	show StatusText | grep refused
	knockgw reload && exit 1
	cp -p good.yaml knockgw.yaml
	systemctl reload knockgw
	said 9 'configuration reloaded'
	test "$(show StatusText)" = Protecting
else
	systemctl reload knockgw && exit 1
	knockgw reload
fi
test "$(echo hello | session)" = hello

# What is killed, what hangs and what fails is started again.
main=$(show MainPID)
kill -KILL "$main"
restarted "$main"
main=$(show MainPID)
kill -STOP "$main"
restarted "$main" # the watchdog's time is short here
journal | grep 'Watchdog timeout'
systemctl reset-failed knockgw # the count of starts
main=$(show MainPID)
kill -QUIT "$main" # ends as a panic does, with 2
restarted "$main"

# A flow has 5 s to end by itself; a second signal ends it at once.
sleep 100 | session &
sleep 1
knockgw flows | grep alice
began=$(date +%s)
systemctl stop knockgw
took=$(($(date +%s) - began))
test $took -ge 4 && test $took -le 10
test "$(show Result)" = success
blackholed
systemctl start knockgw
sleep 100 | session &
sleep 1
main=$(show MainPID)
began=$(date +%s)
systemctl stop knockgw &
stop=$!
said 3 stopping
kill -TERM "$main"
wait $stop
test $(($(date +%s) - began)) -le 3

# An upgrade restarts what runs, leaves alone what does not, and keeps what the operator wrote.
systemctl start knockgw
main=$(show MainPID)
echo '# mine' >>knockgw.yaml
dpkg -i /root/knockgw.deb
test "$(show MainPID)" != "$main"
systemctl is-active knockgw
tail -1 knockgw.yaml | grep mine
systemctl stop knockgw
dpkg -i /root/knockgw.deb
test "$(show ActiveState)" = inactive
systemctl is-enabled knockgw
systemctl start knockgw

# Systemd understood all of the unit, but what is newer than it.
journalctl -b --no-pager | grep -E 'knockgw.service:[0-9]+:' | grep -v notify-reload && exit 1

# Removing takes the service and its routes; secrets stay even after a purge.
dpkg -r knockgw
ip link show knock0 && exit 1
test -z "$(ip route show proto 107)"
test -e /var/lib/knockgw/replay.lock
test ! -e /etc/systemd/system/multi-user.target.wants/knockgw.service
dpkg -P knockgw
test ! -e /var/lib/knockgw
test ! -e /var/log/knockgw
test -e alice.key
test -e knockgw.yaml
echo all is well
