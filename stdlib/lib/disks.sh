# Puts disks together: partitions and boot loader. Needs grub.sh, identity.sh and sizes.sh. To be sourced.
#
# Every disk starts by BIOS and by UEFI. Its first partition has GRUB for a BIOS; the second is the EFI system
# partition; the third has /boot; then comes what the disk is for. Types are those of the Discoverable Partitions
# Specification, and no mountable partition is found by its number.

bios_type=21686148-6449-6E6F-744E-656564454649
esp_type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
boot_type=BC13C2FF-59E6-4262-A352-B275FD6F7172
root_type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
linux_type=0FC63DAF-8483-4772-8E79-3D69D8477DE4

# What a disk has besides the file systems, in MiB: table, GRUB, and the copy of the table at the end.
disk_tables_mb=3

# disk_parameters: sets EFI_MB and BOOT_MB where they are not set, and refuses impossible ones.
disk_parameters() {
    : "${EFI_MB=32}" "${BOOT_MB=512}"
    whole_number EFI_MB 4 32768
    whole_number BOOT_MB 16 "$most_mb"
}

# esp_tree DIR EARLY: adds GRUB to the content of an EFI system partition, where every firmware looks for a loader.
esp_tree() {
    mkdir -p "$1/EFI/BOOT"
    make_core x86_64-efi "$2" "$1/EFI/BOOT/BOOTX64.EFI"
    find "$1" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
}

# early_config UUID PREFIX: the first commands of GRUB: the file system UUID has PREFIX/grub.cfg.
early_config() {
    printf '%s\n' \
        "search --no-floppy --fs-uuid --set=root $1" \
        "set prefix=(\$root)$2" \
        "configfile $2/grub.cfg"
}

# make_disk OUTPUT SIZE_MB EARLY [TYPE NAME MIB IMAGE]…: writes a disk with these partitions, the images of file
# systems. The last one gets what the disk has left.
make_disk() {
    local output=$1 size=$2 early=$3 at=2 type name mb image
    shift 3
    truncate -s "${size}M" "$output"
    {
        printf '%s\n' 'label: gpt' "label-id: $(uuid disk)" 'unit: sectors' 'first-lba: 2048'
        printf 'start=2048, size=2048, type=%s, uuid=%s, name="%s"\n' "$bios_type" "$(uuid partition-bios)" bios
        while (($#)); do
            type=$1 name=$2 mb=$3 image=$4
            shift 4
            printf 'start=%s, size=%s, type=%s, uuid=%s, name="%s"\n' \
                "$((at * 2048))" "$((mb * 2048))" "$type" "$(uuid "partition-$name")" "$name"
            dd if="$image" of="$output" bs=1M seek="$at" conv=notrunc,sparse status=none
            rm "$image"
            at=$((at + mb))
        done
    } >"$output.table"
    sfdisk --quiet --no-tell-kernel --no-reread --wipe never --wipe-partitions never "$output" <"$output.table"
    rm "$output.table"
    install_bios "$output" "$early"
}

# install_bios DISK EARLY: makes a disk start by BIOS: the core of GRUB goes into the first partition, at sector 2048,
# and what loads it into the first sector, in front of the partition table.
install_bios() {
    local disk=$1 early=$2 core=$1.core first=2048
    make_core i386-pc "$early" "$core" biosdisk
    if (($(stat -c %s "$core") > 1048576)); then
        fail 'the core of GRUB is bigger than its partition'
    fi
    cp /usr/lib/grub/i386-pc/boot.img "$disk.boot"
    # boot.img has the number of the first sector of the core at 0x5c. The first sector of the core has the number of
    # its second one at 0x1f4, which is where the list of all others begins; their count stands there already.
    put_number "$first" 8 "$disk.boot" $((0x5c))
    put_number "$((first + 1))" 8 "$core" $((0x1f4))
    # On disks, the drive that the BIOS names is right; boot.img would doubt it.
    printf '\x90\x90' | dd of="$disk.boot" bs=1 seek=$((0x66)) conv=notrunc status=none
    dd if="$disk.boot" of="$disk" bs=440 count=1 conv=notrunc status=none
    dd if="$core" of="$disk" bs=512 seek="$first" conv=notrunc status=none
    rm "$disk.boot" "$core"
}

# put_number NUMBER BYTES FILE OFFSET: writes a number into a file, the low byte first.
put_number() {
    local number=$1 bytes=$2 text= i
    for ((i = 0; i < bytes; i++)); do
        printf -v text '%s\\x%02x' "$text" "$((number >> 8 * i & 255))"
    done
    printf "$text" | dd of="$3" bs=1 seek="$4" conv=notrunc status=none
}
