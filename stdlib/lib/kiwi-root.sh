# Makes the root file system of KIWI's live media. Needs file-systems.sh, identity.sh and parameters.sh. To be sourced.

# pack OUTPUT DIR OPTION…: makes a squashfs file, compressed as squashfscompression says, in blocks as big as KIWI's.
pack() {
    local compression=(-comp "$squashfscompression")
    case $squashfscompression in
        zstd) compression+=(-Xcompression-level 9) ;;
        xz) compression+=(-Xbcj x86) ;;
    esac
    mksquashfs "$2" "$1" -noappend -no-progress -quiet -no-exports -xattrs -b 1M "${compression[@]}" "${@:3}"
}

# make_root OUTPUT DIR: makes LiveOS/squashfs.img of what is in DIR.
make_root() {
    local output=$1 dir=$2 container=$work/container
    mkdir -p "$container/LiveOS"
    case $flags-$filesystem in
        *-ext4)
            make_file_system ext4 "$container/LiveOS/rootfs.img" $(($(tree_mb "$dir") + rootfs_extra_mb)) root '' "$dir"
            pack "$output" "$container" -all-root
            ;;
        overlay-squashfs)
            # kiwi-live looks for a file system in a file in the container, whatever it is. Packing it twice would
            # only cost time.
            pack "$container/LiveOS/rootfs.img" "$dir"
            pack "$output" "$container" -all-root -noI -noD -noF -noX
            ;;
        dmsquash-squashfs)
            pack "$output" "$dir"
            ;;
    esac
    rm -r "$container"
}
