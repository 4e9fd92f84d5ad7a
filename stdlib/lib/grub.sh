# Makes the boot loader of a medium that starts by BIOS and by UEFI. To be sourced.

# Everything GRUB may need is built into its core, so that a medium has no directory of modules.
grub_modules=(
    all_video boot cat chain configfile echo fat halt help iso9660 linux ls minicmd normal part_gpt part_msdos
    reboot search search_fs_file serial terminal test
)

# make_grub DIR MARKER SERIAL: writes DIR/bios.img, an El Torito boot image, and DIR/efi.img, the file system
# of an EFI system partition. Both look for the medium that has the file MARKER, and read its
# /boot/grub/grub.cfg. SERIAL, eight hexadecimal digits, becomes the serial number of the file system.
make_grub() {
    local dir=$1 marker=$2 serial=$3 size
    printf '%s\n' \
        "search --no-floppy --file --set=root $marker" \
        'set prefix=($root)/boot/grub' \
        'configfile /boot/grub/grub.cfg' >"$dir/early.cfg"

    grub-mkimage -O i386-pc-eltorito -p /boot/grub -c "$dir/early.cfg" -o "$dir/bios.img" \
        biosdisk "${grub_modules[@]}"

    mkdir -p "$dir/EFI/BOOT"
    grub-mkimage -O x86_64-efi -p /boot/grub -c "$dir/early.cfg" -o "$dir/EFI/BOOT/BOOTX64.EFI" \
        "${grub_modules[@]}"
    find "$dir/EFI" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +

    # A megabyte is plenty for the tables of the file system itself.
    size=$(stat -c %s "$dir/EFI/BOOT/BOOTX64.EFI")
    truncate -s "$((size / 1048576 + 2))M" "$dir/efi.img"
    mkfs.vfat --invariant -i "$serial" -n EFI "$dir/efi.img" >/dev/null
    mcopy -s -m -i "$dir/efi.img" "$dir/EFI" ::
}

# serial_console SPEC: writes the GRUB commands that show the menu on a serial line as well, if SPEC, a
# kernel console such as `ttyS0,115200n8`, is one and the machine has it.
serial_console() {
    local unit speed
    if [[ $1 =~ ^ttyS([0-9]+)(,([0-9]+))? ]]; then
        unit=${BASH_REMATCH[1]} speed=${BASH_REMATCH[3]:-9600}
        printf '%s\n' \
            "if serial --unit=$unit --speed=$speed; then" \
            '    terminal_input  console serial' \
            '    terminal_output console serial' \
            'fi'
    fi
}
