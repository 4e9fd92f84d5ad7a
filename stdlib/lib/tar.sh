# Writes tar files in which nothing depends on who makes them, when and where. To be sourced.

# plain_tar OPERAND…: runs tar so that it keeps numeric owners, extended attributes and times of modification, but
# no other times; directories are sorted by name.
plain_tar() {
    tar --sort=name --numeric-owner --format=posix \
        --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \
        --xattrs --xattrs-include='*' --acls "$@"
}

# compress none|gzip|zstd: packs standard input, always in the same way.
compress() {
    case $1 in
        none) cat ;;
        gzip) gzip -n -6 ;;
        zstd) zstd -q -T1 -9 ;;
    esac
}
