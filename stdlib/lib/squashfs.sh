# Makes squashfs file systems. To be sourced.

# make_squashfs OUTPUT DIR OPTION…: packs DIR.
#
# With zstd, level 9 in blocks of 256 KiB is as small as the defaults (15, 128 KiB) in a quarter of the time.
make_squashfs() {
    mksquashfs "$2" "$1" \
        -noappend -no-progress -quiet -no-exports -xattrs \
        -comp zstd -Xcompression-level 9 -b 256K \
        "${@:3}"
}
