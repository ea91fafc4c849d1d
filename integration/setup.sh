#!/usr/bin/env bash
# Installs what the integration tests and the benchmark need, and only what is
# missing: Debian packages (as root), the reference CNI plugins and cnitool by
# exact version into bin/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${PLUGINS_VERSION:=v1.9.1}" "${CNITOOL_VERSION:=v1.3.0}"

# package: a file that shows it is installed
packages=()
while read -r package file; do
	[ -e "$file" ] || packages+=("$package")
done <<'LIST'
containerd /usr/bin/ctr
runc /usr/sbin/runc
podman /usr/bin/podman
conmon /usr/bin/conmon
nftables /usr/sbin/nft
iproute2 /usr/sbin/ip
iputils-ping /usr/bin/ping
gcc /usr/bin/gcc
libc6-dev /usr/include/stdlib.h
patch /usr/bin/patch
LIST
# A dynamic busybox finds no library in a container that has nothing else.
[[ $(ldd "$(command -v busybox)" 2>&1) == *'not a dynamic executable'* ]] || packages+=(busybox-static)
if [ ${#packages[@]} -gt 0 ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
	else
		echo "missing packages: ${packages[*]}; install them, or run as root on Debian" >&2
	fi
fi

tools=$PWD/bin/tools
export CGO_ENABLED=0
for plugin in main/bridge main/loopback ipam/host-local ipam/static meta/portmap meta/bandwidth meta/tuning; do
	[ -x "$tools/cni/${plugin#*/}" ] ||
		GOBIN=$tools/cni go install -trimpath -ldflags '-s -w' "github.com/containernetworking/plugins/plugins/$plugin@$PLUGINS_VERSION"
done
[ -x "$tools/cnitool" ] || GOBIN=$tools go install -trimpath "github.com/containernetworking/cni/cnitool@$CNITOOL_VERSION"
