# Makes /output/live.iso of the target in /input, with its layers in /layers and what layer-initrd.sh made of them in
# /initrds. The arguments are NAME=VALUE, the parameters of $std.kiwi-live, which has checked them.

set -euo pipefail
shopt -s nullglob
export LC_ALL=C TZ=UTC
umask 022
. /usr/lib/parameters.sh
. /usr/lib/identity.sh
. /usr/lib/file-systems.sh
. /usr/lib/grub.sh
. /usr/lib/iso.sh
. /usr/lib/dracut.sh
. /usr/lib/checkmedia.sh
. /usr/lib/kiwi-root.sh
. /usr/lib/kiwi-menu.sh

for parameter; do
    declare "${parameter%%=*}=${parameter#*=}"
done
work=$(mktemp -d -p /var/tmp)
target=$(jq -r '.targets[0]' /layers/raptor.json)
mapfile -t layers < <(jq -r '.layers[.targets[0]][]' /layers/raptor.json)

# find_system: sets kernel, its version and the directory of its modules.
find_system() {
    local missing
    version=$(printf '%s\n' /input/boot/vmlinuz-* | sed 's/.*vmlinuz-//' | sort -V | tail -n 1)
    kernel=/input/boot/vmlinuz-$version
    if [[ ! $version || ! -f $kernel ]]; then
        fail "$target has no kernel in /boot: install linux-image-amd64"
    fi
    for modules in "/input/usr/lib/modules/$version" "/input/lib/modules/$version"; do
        if [[ -f $modules/modules.dep ]]; then
            break
        fi
    done
    if [[ ! -f $modules/modules.dep ]]; then
        fail "$target has no modules for its kernel $version"
    fi
    missing=$(missing_modules "$modules" "$features")
    if [[ $missing ]]; then
        fail "the kernel $version of $target cannot start from this medium, as it lacks ${missing//$'\n'/, }: install" \
            'linux-image-amd64'
    fi
    if [[ ! -e /input/sbin/init && ! -L /input/sbin/init ]]; then
        fail "$target has no /sbin/init: install systemd-sysv"
    fi
}

# find_initrd: sets initrd. What was made of one layer will do if no other one has modules or firmware for this kernel;
# else it is made of all of them.
find_initrd() {
    local layer path found=()
    for layer in "${layers[@]}"; do
        for path in {usr/lib,lib}/{"modules/$version",firmware}; do
            if [[ -e /layers/$layer/$path ]]; then
                found+=("$layer")
                break
            fi
        done
    done
    initrd=/initrds/${found[0]-}/$version.initrd
    if ((${#found[@]} != 1)) || [[ ! -f $initrd ]]; then
        initrd=$work/initrd
        make_initrd "$modules" "$features" "$initrd"
    fi
}

# add PATH CONTENT: puts a file on the medium.
add() {
    printf '%s\t%s\n' "$1" "$2" >>"$work/files"
}

# add_files: puts everything on the medium.
add_files() {
    local file
    printf '%s\n' "$marker" >"$work/mbrid"
    printf '%s\n' 'source /boot/grub/grub.cfg' >"$work/loopback.cfg"
    # Names of targets may have characters that mean something to GRUB.
    make_menu "/boot/$marker" "${title:-${target//[^A-Za-z0-9 _.,:()\/@+-]/_}}" >"$work/grub.cfg"
    add "/boot/$marker" "$work/mbrid"
    add /boot/mbrid "$work/mbrid"
    add /boot/grub/grub.cfg "$work/grub.cfg"
    add /boot/grub/loopback.cfg "$work/loopback.cfg"
    add /boot/grub/earlyboot.cfg "$work/grub/early.cfg"
    add "$loader/linux" "$kernel"
    add "$loader/initrd" "$initrd"
    if [[ -f $work/grub/efi.img ]]; then
        for file in "$work/grub/esp/EFI/BOOT"/*; do
            add "/EFI/BOOT/${file##*/}" "$file"
        done
    fi
    if [[ $firmware == uefi ]]; then
        add /.disk/info "$work/mbrid"
    fi
    add /LiveOS/squashfs.img "$work/squashfs.img"
}

# The identity of the medium follows from its parameters and layers, whose names end in digests of what is in them.
identify "$@" "${layers[@]##*-}"
marker=0x$(identifier medium | cut -c 1-8)

find_system
find_initrd
mkdir "$work/grub"
make_loaders "$work/grub" "/boot/$marker" "${marker#0x}"
make_root "$work/squashfs.img" /input
add_files

iso_boot_image=$loader/eltorito.img
iso_boot_catalog=/boot/x86_64/boot.catalog
iso_partition_table=$partition_table
iso_options=(-joliet on -compliance no_emul_toc -application_id "${application_id:-$marker}")
if [[ $publisher ]]; then
    iso_options+=(-publisher "$publisher")
fi
if [[ $partition_table == gpt && $gpt_hybrid_mbr == false ]]; then
    iso_options+=(-boot_image any mbr_force_bootable=off)
fi
make_iso /output/live.iso "$volid" "$(identifier medium)" "$work/grub" "$work/files"

if [[ $mediacheck == true && $flags == overlay ]]; then
    # The file system is the first partition.
    read -r start length < <(sfdisk --dump /output/live.iso |
        sed -n 's/.*start= *\([0-9]*\), size= *\([0-9]*\).*/\1 \2/p' | head -n 1)
    write_tag /output/live.iso "$start" "$length"
elif [[ $mediacheck == true ]]; then
    implantisomd5 --force /output/live.iso
fi
