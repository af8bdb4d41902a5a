# Is root, below a service of a user, and goes to a cgroup and a /proc of its own.
set -eu
while read -r _ at type options _; do
	case $type,$options in
	cgroup2,* | cgroup,*name=systemd*)
		mkdir -p "$at/elsewhere"
		echo $$ >"$at/elsewhere/cgroup.procs"
		;;
	esac
done </proc/mounts
unshare --mount sh -c 'mount -t proc -o hidepid=2 proc /proc
	setpriv --reuid=65534 --regid=65534 --clear-groups /run/rig/killport --json 18143 >/run/hiding.tmp || :
	mv /run/hiding.tmp /run/hiding.out'
