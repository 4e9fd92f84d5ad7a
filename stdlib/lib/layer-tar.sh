# Packs the layer in /input as /output/layer.tar, a layer of a container image.
#
# A whiteout, which hides a file of a lower layer, is a character device 0:0 here. There it is an empty file with
# `.wh.` before its name, so no other file can have such a name.

set -euo pipefail
export LC_ALL=C TZ=UTC
. /usr/lib/parameters.sh
. /usr/lib/tar.sh

work=$(TMPDIR=/var/tmp mktemp -d)
cd /input

if IFS= read -r -d '' path < <(find . -name '.wh.*' -print0 -quit); then
    fail "/${path#./} cannot be in a container image: \`.wh.\` in front of a name is the mark of what was deleted"
fi

# Names may hold anything, so the lists end in NUL, and nothing in them is a pattern.
find . -type c -print0 | sort -z |
    while IFS= read -r -d '' path; do
        if [[ $(stat -c %t:%T "$path") == 0:0 ]]; then
            printf '%s\0' "$path" >>"$work/whiteouts"
        fi
    done
find . -print0 | sort -z >"$work/all"
touch "$work/whiteouts"
comm -z -23 "$work/all" "$work/whiteouts" >"$work/kept"
plain_tar --create --file /output/layer.tar --no-recursion --null --verbatim-files-from --files-from "$work/kept"

mkdir "$work/marks"
while IFS= read -r -d '' path; do
    mkdir -p "$work/marks/${path%/*}"
    mark=${path%/*}/.wh.${path##*/}
    touch -d "@$SOURCE_DATE_EPOCH" "$work/marks/$mark"
    printf '%s\0' "$mark" >>"$work/marked"
done <"$work/whiteouts"
if [[ -e $work/marked ]]; then
    plain_tar --append --file /output/layer.tar --owner=0 --group=0 --mode=0644 --directory "$work/marks" \
        --no-recursion --null --verbatim-files-from --files-from "$work/marked"
fi
