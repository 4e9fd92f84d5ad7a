# Makes the boot menu and boot loaders of KIWI's live media. Needs grub.sh and identity.sh. To be sourced.

loader=/boot/x86_64/loader
failsafe_args='ide=nodma apm=off noresume edd=off nomodeset 3'

# quoted TEXT: prints a text so that GRUB takes it as it is.
quoted() {
    printf '%s\n' "$1" | sed 's/[^A-Za-z0-9 _.,:=\/@%+-]/\\&/g'
}

# live_args: prints the kernel parameters that find the medium and say what becomes of changes.
live_args() {
    printf '%s' "root=live:CDLABEL=$volid rd.live.image"
    case $flags-$hybridpersistent in
        overlay-true)
            printf '%s' " rd.live.overlay.persistent rd.live.overlay.cowfs=$hybridpersistent_filesystem"
            ;;
        dmsquash-true)
            printf '%s' " rd.live.overlay=LABEL=cow rd.live.overlay.cowfs=$hybridpersistent_filesystem"
            ;;
    esac
    if [[ $flags-$filesystem == dmsquash-squashfs ]]; then
        printf '%s' ' rd.live.overlay.overlayfs=1'
    fi
}

# entry TITLE BEFORE AFTER: writes a menu entry, with more kernel parameters before and after those of all entries.
entry() {
    local args
    args=$(quoted "$kernelcmdline")
    printf '%s\n' \
        '' \
        "menuentry '$1' --class os --unrestricted {" \
        "    echo 'Loading $1 ...'" \
        "    linux  (\$root)$loader/linux${2:+ $2} \${extra_cmdline} \${isoboot}${args:+ $args}${3:+ $3} $all_args" \
        "    initrd (\$root)$loader/initrd" \
        '}'
}

# make_menu MARKER TITLE: writes grub.cfg. GRUB may have been started by another one that has loopback.cfg of the image
# run, and where that lies in iso_path.
make_menu() {
    local all_args word
    all_args=$(live_args)
    for word in $console; do
        all_args+=" console=$word"
    done
    printf '%s\n' \
        "search --no-floppy --file --set=root $1" \
        'if [ -n "${iso_path}" ]; then' \
        '    set isoboot="iso-scan/filename=${iso_path}"' \
        'fi'
    GRUB_TIMEOUT=$timeout CONSOLE=$console menu_head
    entry "$2" '' ''
    if [[ $failsafe == true ]]; then
        entry "Failsafe -- $2" '' "$failsafe_args"
    fi
    if [[ $mediacheck == true ]]; then
        if [[ $flags == overlay ]]; then
            entry 'Mediacheck' 'mediacheck=1 plymouth.enable=0' ''
        else
            entry 'Mediacheck' 'rd.live.check plymouth.enable=0' ''
        fi
    fi
    printf '%s\n' '' "menuentry 'Boot from Hard Disk' --class drive-harddisk --unrestricted {" '    exit' '}'
}

# make_loaders DIR MARKER SERIAL: writes what make_grub writes; without DIR/efi.img if the firmware is bios, and with
# the programs that Debian signed if it is uefi.
make_loaders() {
    local dir=$1 boot=$1/esp/EFI/BOOT
    make_grub "$@"
    case $firmware in
        bios)
            rm -r "$dir/efi.img" "$dir/esp"
            ;;
        uefi)
            cp /usr/lib/shim/shimx64.efi.signed "$boot/BOOTX64.EFI"
            cp /usr/lib/shim/mmx64.efi.signed "$boot/mmx64.efi"
            # This one, made for CDs, looks for /.disk/info and reads boot/grub/grub.cfg beside it.
            cp /usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed "$boot/grubx64.efi"
            make_esp "$dir" "$3"
            ;;
    esac
}
