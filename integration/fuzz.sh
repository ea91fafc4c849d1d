#!/usr/bin/env bash
# Runs every fuzz target of the module for so many executions, one after another.
# A count and not a time: a time makes the coordinator fail now and then as it
# runs out, with "context deadline exceeded" and no input (go.dev/issue/75804).
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-20000}
targets=0
while IFS=: read -r file name; do
	name=${name#func } name=${name%(}
	package=./$(dirname "$file")
	start=$SECONDS
	if ! output=$(go test -run '^$' -fuzz "^$name\$" -fuzztime "${runs}x" "$package" 2>&1); then
		echo "FAIL  $package $name"
		echo "$output"
		exit 1
	fi
	echo "ok    $package $name  $((SECONDS - start)) s"
	targets=$((targets + 1))
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+\(' core cni cmd libvirt-hook sdk plugins)
echo "$targets fuzz targets, $runs executions each"
