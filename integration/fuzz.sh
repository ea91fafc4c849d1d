#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-5s}
targets=0
while IFS=: read -r file name; do
	name=${name#func } name=${name%(}
	package=./$(dirname "$file")
	if ! output=$(go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$package" 2>&1); then
		echo "FAIL  $package $name"
		echo "$output"
		exit 1
	fi
	echo "ok    $package $name"
	targets=$((targets + 1))
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+\(' core cni cmd)
echo "$targets fuzz targets, $time each"
