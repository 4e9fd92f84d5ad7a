# Writes a hybrid ISO image. To be sourced.

# What a builder may set otherwise: where the medium has its boot image for BIOS and the hidden list of boot images; gpt
# or msdos; and more options of xorriso.
iso_boot_image=/boot/grub/bios.img
iso_boot_catalog=/boot/boot.cat
iso_partition_table=gpt
iso_options=()

# make_iso OUTPUT VOLUME_ID ID GRUB FILES: writes an image that starts as a CD or as a disk, by BIOS or by
# UEFI. ID, 32 hexadecimal digits, tells this medium from others. GRUB is the directory that make_grub
# filled; without efi.img there is no UEFI. FILES lists all other files, one per line: path on the medium, a tab, path of
# the content.
#
# The file system has a time in the place of a UUID, and live-boot tries only one of several media of the same
# UUID. So the time of day of this one comes from ID.
#
# Same files, same bytes: owners, modes and times on the medium are fixed, so are its identifiers, and the
# contents are laid out in the order of FILES, not in that of inode numbers.
make_iso() {
    local output=$1 volume_id=$2 id=$3 grub=$4 files=$5
    local path content weight=1000000
    local maps=() weights=() efi=()
    local n=$((16#${id:0:12})) uuid
    uuid=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d)
    uuid+=$(printf '%02d%02d%02d%02d' $((n % 24)) $((n / 24 % 60)) $((n / 1440 % 60)) $((n / 86400 % 100)))
    while IFS=$'\t' read -r path content; do
        maps+=(-map "$content" "$path")
        weights+=(-find "$path" -exec sort_weight "$((weight--))" --)
    done < <(printf '%s\t%s\n' "$iso_boot_image" "$grub/bios.img" && cat "$files")
    if [[ -f $grub/efi.img ]]; then
        efi=(-boot_image any "appended_part_as=${iso_partition_table/msdos/mbr}"
            -append_partition 2 0xef "$grub/efi.img"
            -boot_image any next
            -boot_image any efi_path=--interval:appended_partition_2:all::
            -boot_image any platform_id=0xef
            -boot_image any emul_type=no_emulation)
    fi

    # Small letters in the name of a volume are against the standard, and good everywhere.
    xorriso -report_about FAILURE -abort_on FAILURE -return_with FAILURE 32 \
        -outdev "stdio:$output" -volid "$volume_id" \
        -report_about WARNING -abort_on WARNING \
        -padding 0 -preparer_id RAPTOR \
        "${maps[@]}" \
        "${weights[@]}" \
        -chown_r 0 / -- -chgrp_r 0 / -- \
        -find / -type d -exec chmod 0555 -- \
        -find / -type f -exec chmod 0444 -- \
        -alter_date_r b-c "=$SOURCE_DATE_EPOCH" / -- \
        -volume_date uuid "$uuid" \
        -boot_image any "gpt_disk_guid=$id" \
        -boot_image any partition_offset=16 \
        -boot_image any "cat_path=$iso_boot_catalog" \
        -boot_image any cat_hidden=on \
        -boot_image grub "bin_path=$iso_boot_image" \
        -boot_image grub grub2_mbr=/usr/lib/grub/i386-pc/boot_hybrid.img \
        -boot_image grub grub2_boot_info=on \
        -boot_image any boot_info_table=on \
        -boot_image any platform_id=0x00 \
        -boot_image any emul_type=no_emulation \
        -boot_image any load_size=2048 \
        -boot_image any mbr_force_bootable=on \
        "${iso_options[@]}" \
        "${efi[@]}"
}
