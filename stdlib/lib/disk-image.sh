# Makes /output/disk.img, a disk that the target in /input starts from.

set -euo pipefail
shopt -s inherit_errexit nullglob dotglob extglob
export LC_ALL=C TZ=UTC
umask 022
. /usr/lib/parameters.sh
. /usr/lib/tar.sh
. /usr/lib/identity.sh
. /usr/lib/boot-files.sh
. /usr/lib/grub.sh
. /usr/lib/file-systems.sh
. /usr/lib/xfs.sh
. /usr/lib/formats.sh
. /usr/lib/sizes.sh
. /usr/lib/disks.sh

: "${ROOT_FS=ext4}"
one_of ROOT_FS ext4 xfs btrfs
disk_parameters
boot_parameters
check_format

# split_tree: puts the target into $work/root, $work/boot and $work/esp, as its partitions have it.
split_tree() {
    mkdir "$work/root" "$work/boot" "$work/esp"
    cp -a /input/. "$work/root"
    for pair in boot/efi:esp boot:boot; do
        local from=$work/root/${pair%:*} to=$work/${pair#*:} files
        if [[ -L $from ]]; then
            fail "/${pair%:*} is a link, and has to be a directory: it is a partition"
        fi
        mkdir -p "$from"
        files=("$from"/*)
        if ((${#files[@]})); then
            mv "${files[@]}" "$to"
        fi
        touch -d "@$SOURCE_DATE_EPOCH" "$from"
    done
    if [[ -n $(find "$work/esp" ! -type f ! -type d -print -quit) ]]; then
        fail '/boot/efi has more than files and directories, which FAT cannot keep'
    fi
}

# mount_line PARTITION POINT TYPE OPTIONS PASS: adds a line to /etc/fstab, unless the target has one for the same place.
mount_line() {
    local fstab=$work/root/etc/fstab
    if ! awk -v point="$2" '$1 !~ /^#/ && $2 == point { found = 1 } END { exit !found }' "$fstab"; then
        printf 'PARTUUID=%s %s %s %s 0 %s\n' "$(uuid "partition-$1")" "${@:2}" >>"$fstab"
    fi
}

# write_fstab: says where the partitions are mounted.
write_fstab() {
    local fstab=$work/root/etc/fstab check=1
    mkdir -p "$work/root/etc"
    if [[ -L $fstab ]]; then
        fail '/etc/fstab is a link; remove it, or make it a file'
    fi
    [[ -e $fstab ]] || install -m 644 /dev/null "$fstab"
    # The programs of the other two check when they mount.
    [[ $ROOT_FS == ext4 ]] || check=0
    mount_line root / "$ROOT_FS" defaults "$check"
    mount_line boot /boot ext4 defaults 2
    mount_line esp /boot/efi vfat umask=0077 2
    touch -d "@$SOURCE_DATE_EPOCH" "$fstab" "$work/root/etc"
    touch -r /input "$work/root"
}

# write_menu: the boot menu: all kernels, the newest first.
write_menu() {
    local version initrd args
    local -a versions
    mapfile -t versions < <(kernel_versions "$work/boot")
    if ((${#versions[@]} == 0)); then
        fail 'the target has no kernel in /boot: install linux-image-amd64'
    fi
    mkdir -p "$work/boot/grub"
    menu_head >"$work/menu"
    args="root=PARTUUID=$(uuid partition-root) ro systemd.gpt_auto=0"
    for version in "${versions[@]}"; do
        initrd=initrd.img-$version
        if [[ ! -f $work/boot/$initrd ]]; then
            fail "the target has no /boot/$initrd: install initramfs-tools"
        fi
        menu_entry "Linux $version" "/vmlinuz-$version" "$args" "/$initrd" >>"$work/menu"
    done
    install -m 644 "$work/menu" "$work/boot/grub/grub.cfg"
    touch -d "@$SOURCE_DATE_EPOCH" "$work/boot/grub/grub.cfg" "$work/boot/grub" "$work/boot"
}

# kernel_versions DIR: prints the versions of the kernels in DIR, the newest first.
kernel_versions() {
    local file
    for file in "$1"/vmlinuz-*; do
        if [[ -f $file ]]; then
            printf '%s\n' "${file##*/vmlinuz-}"
        fi
    done | sort -rV
}

work=$(TMPDIR=/var/tmp mktemp -d)
split_tree
tables_mb=$disk_tables_mb
plan_sizes "$((EFI_MB + BOOT_MB))" "$ROOT_FS" "$work/root"
identify disk "$ROOT_FS" "$SIZE_MB" "$EFI_MB" "$BOOT_MB" "$GRUB_TIMEOUT" "$CONSOLE" "$KERNEL_ARGS" \
    "$(tree_digest /input)"
write_fstab
write_menu

early_config "$(uuid boot)" /grub >"$work/early.cfg"
esp_tree "$work/esp" "$work/early.cfg"
make_fat "$work/esp.img" "$EFI_MB" "$(identifier esp | cut -c 1-8)" EFI "$work/esp"
make_file_system ext4 "$work/boot.img" "$BOOT_MB" boot boot "$work/boot"
make_file_system "$ROOT_FS" "$work/root.img" "$root_mb" root root "$work/root"
make_disk "$work/disk" "$SIZE_MB" "$work/early.cfg" \
    "$esp_type" esp "$EFI_MB" "$work/esp.img" \
    "$boot_type" boot "$BOOT_MB" "$work/boot.img" \
    "$root_type" root "$root_mb" "$work/root.img"
write_format "$work/disk" "$OUTPUT_FORMAT" /output/disk.img
