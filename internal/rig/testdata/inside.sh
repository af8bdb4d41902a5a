# inside.sh is sourced first by PID 1 of a rig. $1 is the folder of programs, which becomes /run/rig.
#
# /tmp and its like get a tmpfs of their own before anything else is started: systemd-tmpfiles empties them.
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/rig
mount --bind "$1" /run/rig
cgroups=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/mounts)
umount -R /sys/fs/cgroup
case $cgroups in
'/sys/fs/cgroup cgroup2'*) mount -t cgroup2 cgroup2 /sys/fs/cgroup ;;
*)
	mount -t tmpfs tmpfs /sys/fs/cgroup
	echo "$cgroups" | while read -r at type options; do
		mkdir -p "$at"
		if [ "$type" = cgroup2 ]; then
			mount -t cgroup2 cgroup2 "$at"
		else
			options=$(echo "$options" | tr , '\n' | grep -vE '^(rw|ro|relatime|nosuid|nodev|noexec|xattr)$|agent' | paste -sd,)
			case $options in name=*) options=none,$options ;; esac
			mount -t cgroup -o "$options" cgroup "$at"
		fi
	done
	;;
esac
for at in /tmp /var/tmp /var/log; do mount -t tmpfs tmpfs "$at"; done
ip link set lo up
: >/run/ready
