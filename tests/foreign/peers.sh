#!/bin/sh
# A tool that locks, in the language of tests/tests/interop: peers.sh 'flock [OPTION]'|git|sqlite3.
#
# Prints its version first, and exits with 3 if it is not there, or lacks what is asked of it. Each
# runs a command that says `got` once it holds the lock, and then holds it until its input ends.
set -u
tool=$1
dir=$(mktemp -d) || exit
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b

program=${tool%% *} option=${tool#"$program"}
command -v "$program" >/dev/null || exit 3
"$program" --help 2>&1 | grep -q -e "${option# }" || exit 3

# holder SECONDS PATH: 0 for a single try
holder() {
  case $program in
    flock) $tool -w "$1" "$2" sh -c 'echo got; cat' ;;
    git)
      # A commit of everything has the lock of the index while the message is being written.
      repository=${2%/.git/index}
      git init -q -b main "$repository" &&
        GIT_EDITOR='sh -c "echo got; cat >\$1; echo message >\$1" -' \
          git -C "$repository" commit -q -a --allow-empty
      ;;
    sqlite3) sqlite3 -bail -cmd ".timeout $(awk "BEGIN { print $1 * 1000 }")" "$2" ;;
  esac
}

# take SECONDS PATH
take() {
  # New ones each time: a process that git leaves in the background has the old ones open for a moment.
  rm -f in out
  mkfifo in out
  holder "$@" <in >out 2>errors &
  exec 3>in 4<out
  if [ "$program" = sqlite3 ]; then
    echo "BEGIN EXCLUSIVE; SELECT 'got';" >&3
  fi
  if read -r answer <&4; then
    echo got
    return
  fi
  end
  if [ ! -s errors ] || grep -q -e "lock': File exists" -e 'database is locked' errors; then
    return 1
  fi
  echo "error $(head -n 1 errors)"
}

end() {
  exec 3>&-
  wait $!
  exec 4<&-
}

"$program" --version | sed 's/^[^0-9]*//; s/ .*//; q'
while read -r command words; do
  case $command in
    try) take 0 "$words" || echo busy ;;
    # shellcheck disable=SC2086 # seconds and path
    wait) take $words || echo timed-out ;;
    release) end && echo released ;;
  esac
done
