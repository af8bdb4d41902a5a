# Puts itself into a cgroup of its own that bears the name of a container, /run/victim.
set -eu
while read -r _ at type options _; do
	case $type,$options in
	cgroup2,*) group=$(sed -n 's/^0:://p' /proc/self/cgroup) ;;
	cgroup,*name=systemd*) group=$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup) ;;
	*) continue ;;
	esac
	mkdir "$at$group/docker-$(cat /run/victim).scope"
	echo $$ >"$at$group/docker-$(cat /run/victim).scope/cgroup.procs"
done </proc/mounts
exec /run/rig/zoo serve --life=10m 127.0.0.1:18138
