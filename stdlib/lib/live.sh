# Collects what is on a live medium. Needs parameters.sh, boot-files.sh and grub.sh. To be sourced.
#
# On the medium: live/LAYER.squashfs, each once; live/TARGET.module, which lists those of a target, bottom
# first, as live-boot reads it; boot/LAYER/, kernels and initramfs images; and a boot menu of the targets.

# live-boot mounts all layers of a target at once, and the kernel reads at most 4096 bytes of mount options.
max_mount_options=3900
# The loop driver makes eight devices if not told otherwise, and live-boot makes no more.
max_loop_devices=8

declare -A contents=() targets_by_name=()

# safe_name NAME: prints a name that is a file name, a kernel parameter and part of a mount option as well.
safe_name() {
    printf '%s\n' "${1//[^A-Za-z0-9._+@-]/_}"
}

# boot_path FILE: prints where the medium has a file of a layer's /boot.
boot_path() {
    local file=${1#/layers/}
    printf '/boot/%s/%s\n' "$(safe_name "${file%%/*}")" "$(safe_name "${file##*/}")"
}

# add_target TARGET: puts all files of a target on the medium, and the target into the menu.
add_target() {
    local target=$1 name layer version kernel initrd args options=
    local layers=() top_first=()
    name=$(safe_name "$target")
    if [[ ${targets_by_name[$name]-} ]]; then
        fail "the targets ${targets_by_name[$name]} and $target would both be called $name on the medium"
    fi
    targets_by_name[$name]=$target

    mapfile -t layers < <(jq -r --arg target "$target" '.layers[$target][]' /layers/raptor.json)
    for layer in "${layers[@]}"; do
        top_first=("/layers/$layer" "${top_first[@]}")
        layer=$(safe_name "$layer")
        contents[/live/$layer.squashfs]=/input/$layer
        printf '%s.squashfs\n' "$layer"
        options+=:/run/live/rootfs/$layer.squashfs
    done >"$work/$name.module"
    contents[/live/$name.module]=$work/$name.module
    if ((${#options} > max_mount_options)); then
        fail "$target has ${#layers[@]} layers, more than live-boot can mount at once"
    fi

    version=$(find_kernel "${top_first[@]}") ||
        fail "$target has no kernel in /boot: install linux-image-amd64"
    kernel=$(find_file "boot/vmlinuz-$version" "${top_first[@]}")
    initrd=$(find_file "boot/initrd.img-$version" "${top_first[@]}") ||
        fail "$target has no /boot/initrd.img-$version: install initramfs-tools"
    find_file usr/bin/live-boot "${top_first[@]}" >"$work/found" ||
        find_file bin/live-boot "${top_first[@]}" >"$work/found" ||
        fail "$target has no live-boot, which starts it from the medium: install live-boot"
    contents[$(boot_path "$kernel")]=$kernel
    contents[$(boot_path "$initrd")]=$initrd

    args="boot=live module=$name"
    if ((${#layers[@]} >= max_loop_devices)); then
        args+=" loop.max_loop=$((${#layers[@]} + max_loop_devices))"
    fi
    menu_entry "$name" "$(boot_path "$kernel")" "$args" "$(boot_path "$initrd")" /boot/live-uuid.img >>"$work/entries"
}

# collect_targets: makes, from the layers in /layers and the squashfs files of them in /input, $work/files, which lists
# what is on the medium: path on the medium, a tab, path of the content; $work/md5sum.txt; and $work/grub.cfg.
collect_targets() {
    local target path content
    local -a targets
    mapfile -t targets < <(jq -r '.targets[]' /layers/raptor.json)
    if ((${#targets[@]} == 0)); then
        fail 'there is no input to put on the medium'
    fi
    for target in "${targets[@]}"; do
        add_target "$target"
    done
    for path in "${!contents[@]}"; do
        printf '%s\t%s\n' "$path" "${contents[$path]}"
    done | sort >"$work/files"

    # Checksums, in the form that live-boot's parameter `verify-checksums` reads.
    while IFS=$'\t' read -r path content; do
        printf '%s  .%s\n' "$(md5sum <"$content" | cut -d ' ' -f 1)" "$path"
    done <"$work/files" >"$work/md5sum.txt"
    (menu_head && cat "$work/entries") >"$work/grub.cfg"
}

# add_identity ID: adds to $work/files what tells this medium from others: GRUB adds boot/live-uuid.img to the initramfs,
# in which it is conf/uuid.conf; so live-boot takes this medium and no other that may be plugged in, too.
add_identity() {
    local addition=$work/addition
    mkdir "$addition" "$addition/conf"
    printf '%s\n' "$1" | tee "$work/live-uuid" >"$addition/conf/uuid.conf"
    find "$addition" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
    (cd "$addition" && find . -mindepth 1 | sort |
        cpio --quiet --create --format=newc --reproducible --owner=+0:+0) >"$work/live-uuid.img"
    printf '%s\t%s\n' \
        "/.disk/$1" "$work/live-uuid" \
        /.disk/live-uuid "$work/live-uuid" \
        /boot/grub/grub.cfg "$work/grub.cfg" \
        /boot/live-uuid.img "$work/live-uuid.img" \
        /md5sum.txt "$work/md5sum.txt" >"$work/all"
    cat "$work/files" >>"$work/all"
    mv "$work/all" "$work/files"
}
