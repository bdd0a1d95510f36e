# shellcheck shell=sh
# Runs "$@" and sees to its end; usage: sh leash.sh FOLDER command... (see process.rs).
# Standard input is the leash. A line on it is the signal to end the server with, which leaves FOLDER for the next start; its
# end (the tests are over, or were killed) ends the server and removes FOLDER. The server's id is in FOLDER/pid.
folder=$1
shift
exec 3<&0 </dev/null
rm -f "$folder/ended" "$folder/pid"
"$@" 3<&- &
server=$!
echo "$server" >"$folder/pid"

end_with() {
    [ -e "$folder/ended" ] && return
    kill "-$1" "$server" 2>/dev/null
    tries=0
    while [ ! -e "$folder/ended" ] && [ "$tries" -lt 200 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -KILL "$server" 2>/dev/null
}

(
    trap '' HUP INT TERM
    if read -r signal <&3; then
        end_with "$signal"
    else
        end_with TERM
        rm -rf "$folder"
    fi
) &
exec 3<&-

wait "$server"
code=$?
[ -d "$folder" ] && : >"$folder/ended"
exit "$code"
