# Makes /output/disk.img from the layers in /layers and the squashfs files of them in /input: /boot of the medium is one
# partition, all the rest another.

set -euo pipefail
shopt -s nullglob inherit_errexit
export LC_ALL=C TZ=UTC
umask 022
. /usr/lib/parameters.sh
. /usr/lib/tar.sh
. /usr/lib/identity.sh
. /usr/lib/boot-files.sh
. /usr/lib/grub.sh
. /usr/lib/live.sh
. /usr/lib/file-systems.sh
. /usr/lib/formats.sh
. /usr/lib/sizes.sh
. /usr/lib/disks.sh

disk_parameters
boot_parameters
check_format

work=$(TMPDIR=/var/tmp mktemp -d)
collect_targets
identify live-disk "$EFI_MB" "$BOOT_MB" "${FREE_MB-}" "${USED_MB-}" "${SIZE_MB-}" \
    "$(cat "$work/md5sum.txt" "$work/grub.cfg" | sha256sum)"
# live-boot compares checksums of its own partition with what is on it, and the kernels are on another one.
sed -i '\#^[0-9a-f]*  \./boot/#d' "$work/md5sum.txt"
add_identity "$(identifier live)"

mkdir -p "$work/boot" "$work/live" "$work/esp"
while IFS=$'\t' read -r path content; do
    case $path in
        /boot/*) to=$work$path ;;
        *) to=$work/live$path ;;
    esac
    mkdir -p "${to%/*}"
    cp --reflink=auto "$content" "$to"
    chmod 444 "$to"
done <"$work/files"
# The menu names what it starts as on a medium of one partition.
ln -s . "$work/boot/boot"
find "$work/boot" "$work/live" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

tables_mb=$disk_tables_mb
plan_sizes "$((EFI_MB + BOOT_MB))" ext4 "$work/live"
early_config "$(uuid boot)" /boot/grub >"$work/early.cfg"
esp_tree "$work/esp" "$work/early.cfg"
make_fat "$work/esp.img" "$EFI_MB" "$(identifier esp | cut -c 1-8)" EFI "$work/esp"
make_file_system ext4 "$work/boot.img" "$BOOT_MB" boot BOOT "$work/boot"
make_file_system ext4 "$work/live.img" "$root_mb" live DEBLIVE "$work/live"
make_disk "$work/disk" "$SIZE_MB" "$work/early.cfg" \
    "$esp_type" esp "$EFI_MB" "$work/esp.img" \
    "$boot_type" boot "$BOOT_MB" "$work/boot.img" \
    "$linux_type" live "$root_mb" "$work/live.img"
write_format "$work/disk" "$OUTPUT_FORMAT" /output/disk.img
