# Packs the layer in /input as /output/layer.squashfs.
#
# The same layer gives the same bytes: files are sorted, no time is later than SOURCE_DATE_EPOCH, and
# whiteouts are written in one way however the store keeps them.

set -euo pipefail
. /usr/lib/squashfs.sh

# A whiteout hides a file of a lower layer: a character device 0:0. Its owner, mode, time and hard links mean
# nothing and may differ between two copies of a layer, so mksquashfs gets a list of them instead.
excluded=$(mktemp)
whiteouts=$(mktemp)
cd /input
find . -type c -printf '%P\0' | LC_ALL=C sort -z |
    while IFS= read -r -d '' path; do
        if [ "$(stat -c %t:%T "$path")" != 0:0 ]; then
            continue
        fi
        case $path in
            *[$'\n"\\']*)
                echo "cannot write the whiteout $path: its name has a quote, backslash or line break" >&2
                exit 1
                ;;
        esac
        printf '%s\n' "$path" >>"$excluded"
        printf '"%s" C %s 000 0 0 0 0\n' "$path" "$SOURCE_DATE_EPOCH" >>"$whiteouts"
    done

make_squashfs /output/layer.squashfs /input -ef "$excluded" -pf "$whiteouts"
