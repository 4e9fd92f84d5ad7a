# Makes the initramfs of a live medium with dracut. Needs parameters.sh. To be sourced.
#
# Its features are words with a plus sign between them: `overlay` or `dmsquash`, which says how the medium is started;
# `persistent`, dmsquash makes a partition for what is changed; `mediacheck`, overlay can check the medium; `network`,
# it can be far away.

# has_feature FEATURES NAME
has_feature() {
    [[ +$1+ == *+$2+* ]]
}

# missing_modules MODULES FEATURES: prints what the kernel with the modules in the directory MODULES lacks.
missing_modules() {
    local wanted=(isofs squashfs overlay loop sr_mod) present name
    if has_feature "$2" dmsquash; then
        wanted+=(dm_snapshot)
    fi
    present=$(cat "$1"/modules.{dep,builtin} | cut -d : -f 1 | tr - _)
    for name in "${wanted[@]}"; do
        if [[ $present != */$name.ko* ]]; then
            printf '%s\n' "$name"
        fi
    done
}

# make_initrd MODULES FEATURES OUTPUT: MODULES is a directory …/lib/modules/VERSION, beside which is …/lib/firmware.
make_initrd() {
    local modules=$1 features=$2 output=$3
    local add=(bash pollcdrom) options=()
    if has_feature "$features" overlay; then
        add+=(kiwi-live)
    else
        add+=(dmsquash-live livenet)
    fi
    if has_feature "$features" persistent; then
        add+=(dmsquash-live-autooverlay)
    fi
    if has_feature "$features" network; then
        # systemd-networkd needs a message bus, and nothing would start before the network is up.
        add+=(network-legacy)
        options+=(--omit systemd-networkd)
    fi
    if has_feature "$features" mediacheck; then
        # kiwi-live calls it, and Debian has none.
        install -m 755 /usr/lib/checkmedia.sh /usr/bin/checkmedia
        options+=(--install 'cut dd head od sed sha256sum tr')
    fi
    mkdir -p /var/tmp/dracut
    # Names in it follow from nothing but this directory; devices the kernel makes itself; Debian's programs are
    # stripped already.
    DRACUT_NO_MKNOD=1 dracut --force --quiet --reproducible --tmpdir /var/tmp/dracut \
        --no-hostonly --no-hostonly-cmdline --no-early-microcode --nostrip \
        --kmoddir "$modules" --fwdir "${modules%/modules/*}/firmware" \
        --add "${add[*]}" "${options[@]}" --compress 'zstd -q -T1 -9' "$output" "${modules##*/}"
    if [[ ! -s $output ]]; then
        fail "dracut made no initramfs for the kernel ${modules##*/}"
    fi
}
