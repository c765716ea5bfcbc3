# Stands between a process and a server that it has started. Orders come on standard input, one a line;
# each is answered with "up <process id>" or "down". When no more can come, because the process has ended
# in whatever way, the server is ended and its folder removed.
#
# usage: supervisor FOLDER SIGNAL COMMAND...   SIGNAL is what ends the server for good
folder=$1 farewell=$2
shift 2
server=

# `jobs` takes note of what has ended, or a zombie would pass for a server
up() {
  jobs >/dev/null 2>&1
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then return 0; fi
  server=
  return 1
}

# the server and its children; it is frozen meanwhile, so that it makes no more of them
family() {
  printf '%s ' "$server"
  for stat in /proc/[0-9]*/stat; do
    { read -r pid _ _ parent _ <"$stat"; } 2>/dev/null || continue
    if [ "$parent" = "$server" ]; then printf '%s ' "$pid"; fi
  done
}

signal_family() {
  up || return 0
  kill -s STOP "$server"
  # unquoted: they are many
  kill -s "$1" $(family) 2>/dev/null
}

# whether a process holds nothing any more: it is gone, or nobody has asked for its end yet
over() {
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  case ${stat##*) } in Z*) return 0 ;; esac
  return 1
}

kill_family() {
  up || return 0
  kill -s STOP "$server"
  members=$(family)
  # unquoted: they are many
  kill -s KILL $members 2>/dev/null
  wait "$server" 2>/dev/null
  server=
  # a child that is still ending holds what a new server needs
  tries=0
  for member in $members; do
    while ! over "$member" && [ $tries -lt 250 ]; do
      sleep 0.02
      tries=$((tries + 1))
    done
  done
}

end() {
  trap - EXIT
  # the kernel sends HUP to a group that its parent's end leaves with a frozen process in it
  trap '' HUP INT TERM
  if up && [ "$farewell" != KILL ]; then
    signal_family CONT
    kill -s "$farewell" "$server"
    tries=0
    while up && [ $tries -lt 250 ]; do
      sleep 0.02
      tries=$((tries + 1))
    done
  fi
  kill_family
  rm -rf -- "$folder"
}
trap end EXIT
trap 'exit 0' HUP INT TERM

while read -r order name; do
  case $order in
    start) if ! up; then "$@" </dev/null >>"$folder/log" 2>&1 & server=$!; fi ;;
    signal) if up; then kill -s "$name" "$server"; fi ;;
    family) signal_family "$name" ;;
    kill) kill_family ;;
  esac
  if up; then echo "up $server"; else echo down; fi
done
