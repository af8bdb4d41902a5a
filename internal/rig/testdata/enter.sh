#!/bin/sh
# enter.sh NAME SCRIPT ARG...: runs SCRIPT as PID 1 of namespaces of its own, in a cgroup NAME of its own in every
# hierarchy, so that what it makes there is in reach of who cleans up. Ends when the one who started it kills it.
# With an empty RIG_CGROUPS it sees them all, as a container with the cgroup namespace of its host.
set -eu
name=$1
shift
while read -r _ at type _; do
	case $type in cgroup | cgroup2) ;; *) continue ;; esac
	mkdir -p "$at/$name"
	for file in cpuset.cpus cpuset.mems; do # of v1: empty in a new one, and then nobody may enter
		if [ "$type" = cgroup ] && [ -e "$at/$file" ]; then cat "$at/$file" >"$at/$name/$file"; fi
	done
	echo $$ >"$at/$name/cgroup.procs"
done </proc/mounts
exec unshare --kill-child --fork --pid --mount --net --uts --ipc ${RIG_CGROUPS---cgroup} --mount-proc sh "$@"
