# The formats of disk images. Needs identity.sh and parameters.sh. To be sourced.

# check_format: refuses an OUTPUT_FORMAT that is not known.
check_format() {
    : "${OUTPUT_FORMAT=raw}"
    one_of OUTPUT_FORMAT raw qcow2 vmdk vhd vpc vhdx vdi
}

# write_format RAW FORMAT OUTPUT: writes an image in another format. RAW is made sparse.
write_format() {
    local raw=$1 format=$2 output=$3
    # What is a hole is not left to the file system below.
    fallocate --dig-holes "$raw"
    case $format in
        raw) cp --sparse=always "$raw" "$output" ;;
        # The name in Windows is that of the file; the format keeps the size as it is only when asked to.
        vhd | vpc) fixed qemu-img convert -f raw -O vpc -o force_size=on "$raw" "$output" ;;
        *) fixed qemu-img convert -f raw -O "$format" "$raw" "$output" ;;
    esac
}
