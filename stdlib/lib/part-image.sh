# Makes /output/part.img, a file system of the target in /input.

set -euo pipefail
shopt -s inherit_errexit extglob
export LC_ALL=C TZ=UTC
umask 022
. /usr/lib/parameters.sh
. /usr/lib/tar.sh
. /usr/lib/identity.sh
. /usr/lib/file-systems.sh
. /usr/lib/xfs.sh
. /usr/lib/erofs.sh
. /usr/lib/squashfs.sh
. /usr/lib/formats.sh
. /usr/lib/sizes.sh

: "${ROOT_FS=ext4}" "${LABEL=}"
one_of ROOT_FS ext4 xfs btrfs squashfs erofs
check_format
case $ROOT_FS in
    ext4) most=16 ;;
    xfs) most=12 ;;
    btrfs) most=255 ;;
    *) most=0 ;;
esac
if [[ ! $LABEL =~ ^[A-Za-z0-9._+-]*$ ]] || ((${#LABEL} > most)); then
    fail "LABEL has letters, digits, \`.\`, \`_\`, \`+\` and \`-\`, $most at most for $ROOT_FS; not \`$LABEL\`"
fi

work=$(TMPDIR=/var/tmp mktemp -d)
case $ROOT_FS in
    squashfs | erofs)
        for name in FREE_MB USED_MB SIZE_MB; do
            if [[ ${!name-} ]]; then
                fail "$name is for file systems that can be written to; $ROOT_FS is as big as it must be"
            fi
        done
        identify part "$ROOT_FS" "$(tree_digest /input)"
        if [[ $ROOT_FS == erofs ]]; then
            make_erofs "$work/part" "$(uuid root)" /input
        else
            make_squashfs "$work/part" /input
        fi
        ;;
    *)
        plan_sizes 0 "$ROOT_FS" /input
        identify part "$ROOT_FS" "$SIZE_MB" "$LABEL" "$(tree_digest /input)"
        make_file_system "$ROOT_FS" "$work/part" "$root_mb" root "$LABEL" /input
        ;;
esac
write_format "$work/part" "$OUTPUT_FORMAT" /output/part.img
