# plain.sh PROGRAMS: nobody but who is put in.
. "$(dirname "$0")/inside.sh"
exec sleep 600
