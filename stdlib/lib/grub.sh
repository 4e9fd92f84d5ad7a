# Makes boot loaders that start by BIOS and by UEFI. Needs identity.sh for mcopy's order of files. To be sourced.

# Everything GRUB may need is built into its core, so that a medium has no directory of modules.
grub_modules=(
    all_video boot cat chain configfile echo ext2 fat halt help iso9660 linux ls minicmd normal part_gpt part_msdos
    reboot search search_fs_file search_fs_uuid serial terminal test
)

# make_core FORMAT EARLY OUTPUT MODULE…: puts GRUB together. It first runs the commands in the file EARLY.
make_core() {
    grub-mkimage -O "$1" -p /boot/grub -c "$2" -o "$3" "${@:4}" "${grub_modules[@]}"
}

# make_fat OUTPUT SIZE_MB SERIAL LABEL DIR: makes a FAT file system with what is in DIR. SERIAL has eight hexadecimal
# digits. Times and order are those of the files in DIR.
make_fat() {
    truncate -s "$2M" "$1"
    mkfs.vfat --invariant -i "$3" -n "$4" "$1" >/dev/null
    (cd "$5" && shopt -s nullglob dotglob && files=(*) &&
        if ((${#files[@]})); then fixed mcopy -s -m -Q -i "$1" "${files[@]}" ::; fi)
}

# make_grub DIR MARKER SERIAL: writes DIR/bios.img, an El Torito boot image, and DIR/efi.img, the file system
# of an EFI system partition. Both look for the medium that has the file MARKER, and read its
# /boot/grub/grub.cfg. SERIAL, eight hexadecimal digits, becomes the serial number of the file system.
make_grub() {
    local dir=$1 marker=$2 serial=$3
    printf '%s\n' \
        "search --no-floppy --file --set=root $marker" \
        'set prefix=($root)/boot/grub' \
        'configfile /boot/grub/grub.cfg' >"$dir/early.cfg"
    make_core i386-pc-eltorito "$dir/early.cfg" "$dir/bios.img" biosdisk

    mkdir -p "$dir/esp/EFI/BOOT"
    make_core x86_64-efi "$dir/early.cfg" "$dir/esp/EFI/BOOT/BOOTX64.EFI"
    make_esp "$dir" "$serial"
}

# make_esp DIR SERIAL: writes DIR/efi.img, a file system with what is in DIR/esp.
make_esp() {
    local kb
    find "$1/esp" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
    # A megabyte is plenty for the tables of the file system itself.
    kb=$(find "$1/esp" -type f -printf '%s\n' | awk '{ kb += int(($1 + 1023) / 1024) } END { print kb }')
    make_fat "$1/efi.img" "$((kb / 1024 + 2))" "$2" EFI "$1/esp"
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

# menu_head: writes the settings of a menu: those of GRUB_TIMEOUT and CONSOLE.
menu_head() {
    local console
    for console in $CONSOLE; do
        serial_console "$console"
    done
    printf '%s\n' \
        '# The kernel gets the screen in a mode that it can write to.' \
        'set gfxpayload=keep' \
        'set default=0' \
        "set timeout=$GRUB_TIMEOUT"
}

# menu_entry TITLE KERNEL ARGS INITRD…: writes an entry of a menu; CONSOLE and KERNEL_ARGS come behind ARGS.
menu_entry() {
    local title=$1 kernel=$2 args=$3 console
    for console in $CONSOLE; do
        args+=" console=$console"
    done
    printf '%s\n' \
        '' \
        "menuentry '$title' --id '$title' {" \
        "    echo 'Loading $title ...'" \
        "    linux  $kernel $args${KERNEL_ARGS:+ $KERNEL_ARGS}" \
        "    initrd ${*:4}" \
        '}'
}
