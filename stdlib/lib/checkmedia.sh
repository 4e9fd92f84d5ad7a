#!/bin/bash
# checkmedia DEVICE: is a medium what its tag says? The tag is that of SUSE's checkmedia, with SHA-256: text in the area
# of ISO 9660 that is free for applications.
#
# It is part of the initramfs. Sourced, it also writes tags.

tag_at=$((0x8373))
tag_length=512

# part DEVICE START LENGTH: prints these bytes.
part() {
    dd if="$1" bs=1M iflag=skip_bytes,count_bytes skip="$2" count="$3" status=none
}

# digest DEVICE START LENGTH: prints the digest of these bytes. The tag counts as blanks, and the first 512 bytes, which
# have the partition table, as zeros.
digest() {
    local at=$2 end=$(($2 + $3))
    {
        if ((at == 0)); then
            head -c 512 /dev/zero
            at=512
        fi
        if ((at <= tag_at && end >= tag_at + tag_length)); then
            part "$1" "$at" $((tag_at - at))
            printf '%*s' "$tag_length" ''
            at=$((tag_at + tag_length))
        fi
        part "$1" "$at" $((end - at))
    } | sha256sum | cut -d ' ' -f 1
}

# iso_length DEVICE: prints how many bytes the file system has.
iso_length() {
    echo $(($(part "$1" $((0x8050)) 4 | od -An -t u4 | tr -d ' ') * 2048))
}

# write_tag FILE START LENGTH: tags a medium whose first partition has LENGTH sectors of 512 bytes from START on.
write_tag() {
    local tag
    tag="check=1;pad=0;sha256sum=$(digest "$1" 0 "$(iso_length "$1")")"
    tag+=";partition=$2,$3,$(digest "$1" $(($2 * 512)) $(($3 * 512)))"
    printf '%-*s' "$tag_length" "$tag" | dd of="$1" bs=1 seek="$tag_at" conv=notrunc status=none
}

# check DEVICE: a partition that was added to a stick changes what is in front of the first one, but not that.
check() {
    local tag whole start length expected
    tag=$(part "$1" "$tag_at" "$tag_length" | tr -d '\0' | tr ';' '\n')
    whole=$(sed -n 's/^ *sha256sum=\([0-9a-f]*\).*/\1/p' <<<"$tag")
    IFS=, read -r start length expected < <(sed -n 's/^ *partition=\([0-9a-f,]*\).*/\1/p' <<<"$tag")
    if [[ ! $whole$expected ]]; then
        echo "$1 has no checksum"
        return 1
    fi
    if [[ $expected && $(digest "$1" $((start * 512)) $((length * 512))) == "$expected" ]]; then
        echo "$1: the partition has the right checksum"
    elif [[ $whole && $(digest "$1" 0 "$(iso_length "$1")") == "$whole" ]]; then
        echo "$1: the medium has the right checksum"
    else
        echo "$1: the checksum is WRONG"
        return 1
    fi
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    check "$1"
fi
