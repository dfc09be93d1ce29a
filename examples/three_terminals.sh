#!/bin/sh
# Watch an agent with three terminals. Activate the environment that has the package in each of them, then run:
#
#   examples/three_terminals.sh dashboard      # the page, at http://localhost:8080
#   examples/three_terminals.sh agent [DIR]    # an agent that analyses DIR, slowly enough to watch
#   examples/three_terminals.sh watch          # the file metrics.json, once a second
#
# Start and stop them in any order. They share only the directory ~/.pyjama (or $PYJAMA_HOME).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
snapshot=${PYJAMA_HOME:-$HOME/.pyjama}/metrics.json

case "${1:-}" in
dashboard) exec pyjama dashboard --port "${PORT:-8080}" ;;
agent) exec "${PYTHON:-python3}" "$here/codebase_analyzer.py" "${2:-.}" --imports --pause "${PAUSE:-0.2}" ;;
watch) exec watch -n 1 "jq . '$snapshot' || echo 'nothing recorded yet'" ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
