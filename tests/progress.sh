#!/usr/bin/env bash
# Runs a build of cargo or go, and says every fifteen seconds how far it is, instead of a line for each crate or package.
#
#   tests/progress.sh WHAT UNITS COMMAND...
#
# UNITS names what is counted, such as "of about 350 crates". Of the command's standard error the lines that only name a
# crate, a package or a download are counted; all others pass through.
set -euo pipefail

what=$1 units=$2
shift 2
every=${PROGRESS_SECONDS:-15}

duration() { [ "$1" -lt 60 ] && echo "$1 s" || echo "$(($1 / 60)) min $(($1 % 60)) s"; }

count() {
  local word='^[[:space:]]+(Compiling|Checking) ([^ ]+)' package='^[A-Za-z0-9._~/-]+$'
  local download='^(go: d|[[:space:]]+D)ownload(ing|ed) (.*)' chatter='^[[:space:]]+(Updating|Locking|Adding|Finished|Executable) '
  local line='' part status built=0 last='' said= timeout=()
  # bash 3 does not tell the end of the time from the end of the input
  [ "${BASH_VERSINFO[0]}" -lt 4 ] || timeout=(-t $((every > 0 ? every : 1)))
  while :; do
    status=0
    IFS= read -r ${timeout[@]+"${timeout[@]}"} part || status=$?
    line+=$part
    if [ "$status" -gt 128 ]; then # the time is over: the rest of the line is still to come
      :
    elif [[ $line =~ $word ]]; then
      built=$((built + 1)) last=${BASH_REMATCH[2]}
    elif [[ $line =~ $package ]]; then
      built=$((built + 1)) last=$line
    elif [[ $line =~ $download ]]; then
      last="downloading ${BASH_REMATCH[3]}"
    elif [ -n "$line" ] && ! [[ $line =~ $chatter ]]; then
      echo "$line"
    fi
    if [ $((SECONDS - ${said:-0})) -ge "$every" ] && [ -n "$last" ]; then
      said=$SECONDS
      echo "$what: $built $units after $(duration $SECONDS), now $last"
    fi
    [ "$status" -gt 128 ] && continue
    line=
    [ "$status" = 0 ] || break
  done
  [ -z "$said" ] || echo "$what: done after $(duration $SECONDS)"
}

{ "$@" 2>&1 >&3 3>&- | count >&2; } 3>&1
