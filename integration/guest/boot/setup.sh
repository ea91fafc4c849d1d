#!/usr/bin/env bash
# setup.sh PIECE DIR: fills DIR, which is empty, with a piece of what guests are
# made of:
#   root   the files of a small Debian 12, without any configuration
#   uml    Debian's user-mode-linux with its modules
#   qemu   Debian's qemu and its newest 6.12 kernel with its modules (backports), and
#          netdevsim, which Debian leaves out, with what is in netdevsim/ here
# or of what integration/libvirt runs:
#   libvirt9, libvirt11   libvirtd and qemu of Debian 12, and of its backports
# Packages are downloaded by an apt with lists and a state of its own and unpacked
# below DIR. Nothing is installed, and root is not needed; apt-get, dpkg-deb, tar,
# gpgv and Debian's archive keyring must be there; for qemu gcc, make and patch too.
set -euo pipefail
piece=$1 dir=$2 recipe=$(dirname "$0")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || { echo "no $keyring: guests are set up on Debian, or with its package debian-archive-keyring" >&2; exit 1; }
apt=$dir/.apt
mkdir -p "$apt"/{lists/partial,cache/archives/partial}
: >"$apt/status"

# The mirror that this machine's apt uses.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 2>/dev/null | sed -n 's/ bookworm$//p' | head -1)
for suite in bookworm bookworm-backports; do
	echo "deb [signed-by=$keyring] ${mirror:-http://deb.debian.org/debian} $suite main"
done >"$apt/sources.list"

own=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
	-o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::State::extended_states=$apt/extended"
	-o "Dir::Cache=$apt/cache" -o APT::Sandbox::User= -o APT::Architecture=amd64 -o Acquire::Languages=none -o Acquire::Retries=3)

# download PACKAGE...: those only. closure PACKAGE...: with all that they depend on.
download() { (cd "$apt/cache/archives" && apt-get "${own[@]}" download "$@"); }
closure() { apt-get "${own[@]}" -y --no-install-recommends --download-only install "$@" >/dev/null; }

# unpack TO [PATH...]: what was downloaded, or these paths of it.
unpack() {
	local to=$1 deb
	shift
	mkdir -p "$to"
	for deb in "$apt"/cache/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -C "$to" -x --keep-directory-symlink --no-same-owner "$@"
	done
	rm -f "$apt"/cache/archives/*.deb
}

# merged TO: /bin, /lib and /sbin are links, as on every Debian.
merged() {
	local name
	for name in bin lib lib64 sbin; do
		mkdir -p "$1/usr/$name"
		ln -s "usr/$name" "$1/$name"
	done
}

# netdevsim RELEASE VERSION TREE: a module of NICs that exist in memory only, built from
# the kernel's own source, into the module directory TREE.
netdevsim() {
	local release=$1 version=$2 tree=$3 build=$dir/unpacked/netdevsim headers=$dir/unpacked/usr/src/linux-headers-$1
	download "linux-headers-$release=$version" "linux-headers-${release%-amd64}-common=$version" "linux-kbuild-${release%-amd64}=$version"
	unpack "$dir/unpacked"
	sed -i "s#^include /usr/src#include $dir/unpacked/usr/src#" "$headers/Makefile"
	download "linux-source-6.12=$version"
	mkdir -p "$build"
	# The archive is 1.5 GB unpacked, of which this is all that is kept.
	dpkg-deb --fsys-tarfile "$apt"/cache/archives/linux-source-*.deb | tar -xO --wildcards '*/linux-source-6.12.tar.xz' | xz -dc |
		tar -C "$build" -x --strip-components=4 --no-same-owner linux-source-6.12/drivers/net/netdevsim
	rm -f "$apt"/cache/archives/*.deb
	cp "$recipe"/netdevsim/*.c "$build"
	for change in "$recipe"/netdevsim/*.patch; do patch -s -d "$build" -p1 <"$change"; done
	(cd "$build" && printf 'obj-m := netdevsim.o\nnetdevsim-y :=%s\n' "$(printf ' %s' *.c | sed 's/\.c/.o/g')" >Kbuild)
	make -s -C "$headers" M="$build" -j"$(nproc)" CONFIG_DEBUG_INFO_BTF_MODULES= modules
	strip -g "$build/netdevsim.ko"
	mkdir -p "$tree/extra"
	mv "$build/netdevsim.ko" "$tree/extra"
}

# modules TREE RELEASE: a module directory goes where the guest looks for it.
modules() {
	merged "$dir/root"
	mkdir -p "$dir/root/usr/lib/modules"
	mv "$1" "$dir/root/usr/lib/modules/$2"
	rm -f "$dir/root/usr/lib/modules/$2"/{build,source}
	closure usr-is-merged kmod
	merged "$dir/kmod"
	unpack "$dir/kmod"
	"$dir"/kmod/lib64/ld-linux-x86-64.so.2 --library-path "$dir/kmod/lib/x86_64-linux-gnu" --argv0 depmod \
		"$dir/kmod/bin/kmod" -b "$dir/root" "$2"
	rm -rf "$dir/kmod"
}

# bare KERNEL TO: the ELF file that is packed in a bzImage (Documentation/arch/x86/boot.rst).
# Emulated, unpacking takes a third of the whole boot.
bare() {
	local at length
	at=$((($(od -An -tu1 -j497 -N1 "$1") + 1) * 512 + $(od -An -tu4 -j584 -N4 "$1")))
	length=$(od -An -tu4 -j588 -N4 "$1")
	closure usr-is-merged zstd
	merged "$dir/zstd"
	unpack "$dir/zstd"
	mkdir -p "$(dirname "$2")"
	dd "if=$1" iflag=skip_bytes,count_bytes "skip=$at" "count=$((length - 4))" bs=1M status=none | # the last 4 bytes are the size
		"$dir"/zstd/lib64/ld-linux-x86-64.so.2 --library-path "$dir/zstd/lib/x86_64-linux-gnu:$dir/zstd/usr/lib/x86_64-linux-gnu" \
			"$dir/zstd/usr/bin/zstd" -qdc >"$2"
	rm -rf "$dir/zstd"
}

# pick TO NAME...: modules that a guest needs before it has its root, in this order.
pick() {
	local to=$dir/$1 name n=10 file
	mkdir -p "$to"
	shift
	for name; do
		file=$(find "$dir/root/usr/lib/modules" \( -name "$name.ko" -o -name "$name.ko.xz" \) | head -1)
		[ -n "$file" ] || { echo "the kernel has no module $name" >&2; exit 1; }
		case $file in
		*.xz) xz -dc "$file" >"$to/$n-$name.ko" ;;
		*) cp "$file" "$to/$n-$name.ko" ;;
		esac
		n=$((n + 1))
	done
}

apt-get "${own[@]}" update
case $piece in
root)
	merged "$dir/root"
	closure usr-is-merged bash dash coreutils findutils grep sed mawk tar gzip util-linux mount hostname procps less ncurses-base \
		iproute2 iputils-ping nftables iptables conntrack kmod ethtool tcpdump iperf3 busybox-static \
		strongswan-charon strongswan-swanctl
	unpack "$dir/root" --exclude './usr/share/doc' --exclude './usr/share/man' --exclude './usr/share/locale'
	cd "$dir/root"
	mkdir -p proc sys dev run tmp out src share root/.cache var/lib etc
	ln -sf dash usr/bin/sh
	ln -sf mawk usr/bin/awk
	for name in iptables ip6tables; do ln -sf xtables-nft-multi "usr/sbin/$name"; done
	echo 'root:x:0:0:root:/root:/bin/bash' >etc/passwd
	echo 'root:x:0:' >etc/group
	echo '127.0.0.1 localhost guest' >etc/hosts
	echo 'PS1="\h:\w# "' >root/.bashrc
	;;
uml)
	download user-mode-linux
	unpack "$dir/unpacked" ./usr/bin/linux.uml ./usr/lib/uml/modules
	mv "$dir/unpacked/usr/bin/linux.uml" "$dir/linux"
	for tree in "$dir"/unpacked/usr/lib/uml/modules/*; do modules "$tree" "$(basename "$tree")"; done
	pick early overlay
	;;
qemu)
	kernel=$(apt-cache "${own[@]}" depends linux-image-amd64/bookworm-backports | sed -n 's/.*Depends: \(linux-image-6\.12\.[^ ]*\)$/\1/p' | sort -V | tail -1)
	[ -n "$kernel" ] || { echo "backports have no kernel 6.12" >&2; exit 1; }
	release=${kernel#linux-image-}
	download "$kernel"
	unpack "$dir/unpacked" "./boot/vmlinuz-$release" ./lib/modules
	mv "$dir/unpacked/boot/vmlinuz-$release" "$dir/linux"
	netdevsim "$release" "$(apt-cache "${own[@]}" show "$kernel" | sed -n 's/^Version: //p' | head -1)" "$dir/unpacked/lib/modules/$release"
	modules "$dir/unpacked/lib/modules/$release" "$release"
	pick early netfs 9pnet 9p 9pnet_virtio overlay
	# Of a libvirt domain.
	pick vm failover net_failover virtio_net e1000e llc stp garp mrp 8021q
	# Of one in a guest, where each module takes its time.
	pick nested failover net_failover virtio_net igbvf
	bare "$dir/linux" "$dir/domain/boot/vmlinux"
	merged "$dir/qemu"
	closure -t bookworm-backports qemu-system-x86
	unpack "$dir/qemu" --exclude './usr/share/doc' --exclude './usr/share/man' --exclude './usr/share/locale'
	;;
libvirt9 | libvirt11)
	from=()
	[ $piece = libvirt9 ] || from=(-t bookworm-backports)
	merged "$dir/root"
	closure "${from[@]}" libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-driver-lxc libvirt-clients qemu-system-x86 nftables iproute2 busybox-static virtinst
	unpack "$dir/root" --exclude './usr/share/doc' --exclude './usr/share/man' --exclude './usr/share/locale' --exclude './usr/share/perl' --exclude './usr/lib/x86_64-linux-gnu/perl'
	cd "$dir/root"
	mkdir -p proc sys dev run tmp etc var/tmp
	ln -sf busybox usr/bin/sh
	rm -rf var/run && ln -s /run var/run
	# libvirtd 9 wants the users that libvirt-daemon-system would make.
	printf '%s\n' root:x:0:0:root:/root:/bin/sh libvirt-qemu:x:64055:107::/var/lib/libvirt:/usr/sbin/nologin >etc/passwd
	printf '%s\n' root:x:0: kvm:x:107: libvirt:x:108: libvirt-qemu:x:64055: >etc/group
	;;
*)
	echo "no such piece: $piece" >&2
	exit 2
	;;
esac
rm -rf "$dir/unpacked" "$dir/.recipe" "$apt"
