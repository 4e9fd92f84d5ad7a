# The identifiers of an image follow from what it is made of: the same image has the same, and another has others.
# Needs tar.sh. To be sourced.

# tree_digest DIR: prints a digest of all that is in DIR: names, contents, owners, modes, attributes and times. What the
# store keeps of whiteouts besides their names does not count.
tree_digest() {
    fixed plain_tar --create --directory "$1" . | sha256sum | cut -c 1-64
}

# identify TEXT…: sets what all identifiers of this image follow from, and the random bytes of `fixed` as well.
identify() {
    local i
    image_id=$(printf '%s\n' "$@" | sha256sum | cut -c 1-64)
    export FIXED_RANDOM
    FIXED_RANDOM=$(TMPDIR=/var/tmp mktemp)
    for i in {1..64}; do
        # printf makes bytes of hexadecimal digits.
        printf "$(printf '%s %s' "$image_id" "$i" | sha256sum | cut -c 1-64 | sed 's/../\\x&/g')"
    done >"$FIXED_RANDOM"
}

# identifier NAME: prints 32 hexadecimal digits that stand for one thing of this image.
identifier() {
    printf '%s %s' "$image_id" "$1" | sha256sum | cut -c 1-32
}

# uuid NAME: prints the same as a UUID (version 8: made in a way of one's own).
uuid() {
    local hex
    hex=$(identifier "$1")
    printf '%s-%s-8%s-8%s-%s\n' "${hex:0:8}" "${hex:8:4}" "${hex:13:3}" "${hex:17:3}" "${hex:20}"
}

# fixed COMMAND…: runs a program that sees neither clock nor chance; see fixed.c.
fixed() {
    LD_PRELOAD=/usr/lib/fixed.so "$@"
}
