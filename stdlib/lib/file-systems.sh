# Makes file systems in files, without mounting them. Needs identity.sh and parameters.sh. To be sourced.

# tree_mb DIR: prints how many MiB a file system needs for what is in DIR, its own tables included. Names and lengths
# of files alone decide: what they take where they are now is a matter of the store.
tree_mb() {
    find "$1" -printf '%y %s %D:%i\n' | awk '
        seen[$3]++ { next }
        { inodes++; kb += ($1 == "d") ? 4 : ($1 == "f") ? int(($2 + 4095) / 4096) * 4 : 0 }
        # Inodes, index blocks and a journal; file systems grow theirs with their size.
        END { print int((kb + inodes / 2) * 1.06 / 1024) + 40 }'
}

# least_mb TYPE: prints the size of the smallest file system of a kind that its program makes.
least_mb() {
    case $1 in
        ext4) echo 16 ;;
        xfs) echo 300 ;;
        btrfs) echo 128 ;;
    esac
}

# make_file_system TYPE OUTPUT SIZE_MB NAME LABEL DIR: makes a file system with what is in DIR. NAME tells it from the
# other ones of the image.
make_file_system() {
    local type=$1 output=$2 size=$3 name=$4 label=$5 dir=$6
    if ((size < $(least_mb "$type"))); then
        fail "the $type file system for $name has $size MiB, and cannot have less than $(least_mb "$type")"
    fi
    rm -f "$output"
    truncate -s "${size}M" "$output"
    "make_$type" "$output" "$size" "$(uuid "$name")" "$label" "$dir" ||
        fail "$name does not fit into a file system of $size MiB: make it bigger"
}

# make_ext4 OUTPUT SIZE_MB UUID LABEL DIR
make_ext4() {
    local inodes least
    # One for every 16 KiB, as usual, but enough for a system of small files and as many again.
    inodes=$(($2 * 64))
    least=$(($(find "$5" -printf . | wc -c) * 2 + 64))
    # Some readers of file systems, GRUB among them, know nothing of the newest features.
    fixed mkfs.ext4 -q -F -b 4096 -L "$4" -U "$3" -N "$((inodes > least ? inodes : least))" \
        -O ^metadata_csum_seed,^orphan_file \
        -E "hash_seed=$3,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard" \
        -d "$5" "$1" "${2}M" || return
    # What mkfs.ext4 takes of DIR is what is in it.
    printf 'sif <2> mode 04%04d\n' "$(stat -c %a "$5")" >"$1.root"
    stat --printf 'sif <2> uid %u\nsif <2> gid %g\nsif <2> atime @%Y\nsif <2> mtime @%Y\n' "$5" >>"$1.root"
    fixed debugfs -w -f "$1.root" "$1" >/dev/null 2>&1
    rm "$1.root"
}

# make_btrfs OUTPUT SIZE_MB UUID LABEL DIR
make_btrfs() {
    fixed mkfs.btrfs --quiet --label "$4" --uuid "$3" --nodiscard --rootdir "$5" "$1"
}
