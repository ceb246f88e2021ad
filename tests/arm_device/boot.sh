#!/bin/bash
# Runs an image in the foreground, each time with a clean disk: boot.sh IMAGE CONSOLE_LOG
# SSH_PORT and ADB_PORT are ports of this machine (adb takes 5555 to 5585 for emulators of its own); CPU, SMP and MEMORY are QEMU's.
# ICOUNT=1: one guest instruction takes one nanosecond of guest time, so that the guest's clock counts instructions.
set -euo pipefail
image=$1
log=$2
clock=()
says="edgepack.emulator=qemu"
if [ -n "${ICOUNT:-}" ]; then
    clock=(-icount shift=0,sleep=off)
    says="$says edgepack.clock=instructions"
    SMP=1
fi
# Without this, a runner that is killed would leave the machine running.
dies_with_parent=()
[ -z "${DIES_WITH_PARENT:-}" ] || dies_with_parent=(setpriv --pdeathsig KILL)
exec "${dies_with_parent[@]}" qemu-system-aarch64 -machine virt -cpu "${CPU:-cortex-a76}" -smp "${SMP:-1}" -m "${MEMORY:-1G}" \
    -display none -monitor none -serial "file:$log" \
    -kernel "$image/kernel" -initrd "$image/ramdisk.gz" -append "console=ttyAMA0 quiet panic=-1 $says" \
    -drive "file=$image/disk.ext4,format=raw,if=none,id=disk,snapshot=on" -device virtio-blk-pci,drive=disk \
    -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${SSH_PORT:?}-:22,hostfwd=tcp:127.0.0.1:${ADB_PORT:?}-:5555" \
    -device virtio-net-pci,netdev=net,romfile= "${clock[@]}"
