#!/bin/bash
# Builds the image of an arm64 device with Debian's packages and the runtimes' wheels: build_image.sh FOLDER
# FOLDER gets kernel, ramdisk.gz, disk.ext4, host_key(.pub) and the client's id_ed25519(.pub). Needs root (mmdebstrap unpacks
# files of other users); nothing is emulated or run from the image. MIRROR: a Debian mirror, else the one this machine uses.
set -euo pipefail

out=$1
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
suite=bookworm

mirror_of_this_machine() {
    grep -qs '^ID=debian' /etc/os-release || return 0
    cat /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources 2> /dev/null |
        sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' | head -1
}
mirror=${MIRROR:-$(mirror_of_this_machine || true)}
[ -n "$mirror" ] || { echo "this machine isn't a Debian: name a Debian mirror, MIRROR=http://… make arm-device-image" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "building the image needs root: sudo make arm-device (running it does not)" >&2; exit 2; }

root=$out/root
mkdir -p "$out"
rm -rf "$root"

unpack_packages() {
    local backports=$suite-backports
    local packages=(base-files base-passwd bash coreutils dash grep sed tar gzip procps time mount util-linux libc-bin
        python3 libgomp1 libstdc++6 openssh-server openssh-client openssh-sftp-server busybox-static
        linux-image-cloud-arm64/$suite adbd android-{libcutils,libbase,liblog,libboringssl}/$backports)
    mmdebstrap --quiet --architectures=arm64 --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include="$(IFS=,; echo "${packages[*]}")" --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        '' "$root" "deb $mirror $suite main" "deb $mirror $backports main"
}

# root is for tests that break things; 'edge' is what a user of a board has.
add_users() {
    [ -e "$out/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C arm-device -f "$out/id_ed25519"
    [ -e "$out/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C arm-device -f "$out/host_key"
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    sed -i 's#^root:.*#root:x:0:0:root:/root:/bin/bash#' "$root/etc/passwd"
    { echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin'; echo 'edge:x:1000:1000::/home/edge:/bin/bash'; } >> "$root/etc/passwd"
    echo 'edge:x:1000:' >> "$root/etc/group"
    printf '%s:*:19000:0:99999:7:::\n' root edge sshd > "$root/etc/shadow"
    chmod 640 "$root/etc/shadow"
    local home
    for home in root home/edge; do
        install -d -m 700 "$root/$home" "$root/$home/.ssh"
        install -m 600 "$out/id_ed25519.pub" "$root/$home/.ssh/authorized_keys"
    done
    chown -R 0:0 "$root/root"
    chown -R 1000:1000 "$root/home/edge"
    install -D -m 600 "$out/host_key" "$root/etc/ssh/ssh_host_ed25519_key"
    [ -e "$root/etc/ssh/sshd_config" ] || cp "$root/usr/share/openssh/sshd_config" "$root/etc/ssh/"
}

add_our_files() {
    ln -sf dash "$root/bin/sh"
    mkdir -p "$root/data/local/tmp"
    install -m 755 "$here/guest/getprop" "$root/usr/bin/getprop"
    install -m 755 "$here/guest/edge-init" "$root/usr/sbin/edge-init"
}

# Wheels for the device, not for this machine. Compiled here where this Python writes what the device's 3.11 reads.
add_runtimes() {
    local platforms=(--platform manylinux2014_aarch64) minor wheels runtime
    for minor in 17 24 26 27 28 31 34 35 36; do platforms+=(--platform "manylinux_2_${minor}_aarch64"); done
    for wheels in "$here"/wheels/*.txt; do
        runtime=$(basename "$wheels" .txt)
        "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile --no-deps \
            --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
            "${platforms[@]}" --target "$root/opt/$runtime" --requirement "$wheels"
    done
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
        "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$root" -p / \
            "$root/opt" "$root/usr/lib/python3.11" "$root/usr/lib/python3" > /dev/null || true
    fi
    chown -R 0:0 "$root/opt"
}

write_ramdisk() {
    local ramdisk=$out/ramdisk kernel module
    kernel=$(echo "$root"/lib/modules/*/kernel/drivers)
    rm -rf "$ramdisk"
    mkdir -p "$ramdisk"/{bin,modules,proc,sys,dev,new}
    install -m 755 "$root/usr/bin/busybox" "$ramdisk/bin/busybox"
    install -m 755 "$here/guest/init-ramdisk" "$ramdisk/init"
    for module in virtio/virtio virtio/virtio_ring virtio/virtio_pci_modern_dev virtio/virtio_pci_legacy_dev virtio/virtio_pci \
        block/virtio_blk ../net/core/failover net/net_failover net/virtio_net; do
        cp "$kernel/$module.ko" "$ramdisk/modules/"
        basename "$module" >> "$ramdisk/modules/order"
    done
    (cd "$ramdisk" && find . | cpio -o -H newc --quiet | gzip) > "$out/ramdisk.gz"
    rm -rf "$ramdisk"
}

unpack_packages
add_users
add_our_files
add_runtimes
write_ramdisk
mv "$root"/boot/vmlinuz-* "$out/kernel"
rm -rf "$root/lib/modules" "$root/boot"
mkfs.ext4 -q -F -d "$root" "$out/disk.ext4" "${SIZE:-1600M}"
rm -rf "$root"
