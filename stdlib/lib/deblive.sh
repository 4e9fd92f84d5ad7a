# Makes /output/debian-live.iso from the layers in /layers and the squashfs files of them in /input.

set -euo pipefail
shopt -s nullglob
export LC_ALL=C TZ=UTC
umask 022
. /usr/lib/parameters.sh
. /usr/lib/identity.sh
. /usr/lib/boot-files.sh
. /usr/lib/grub.sh
. /usr/lib/live.sh
. /usr/lib/iso.sh

boot_parameters
: "${VOLUME_ID=DEBLIVE}"

work=$(mktemp -d)
collect_targets

# The identity of the medium follows from what is on it.
id=$(cat "$work/md5sum.txt" "$work/grub.cfg" | sha256sum | cut -c 1-32)
add_identity "$id"
mkdir "$work/grub"
make_grub "$work/grub" "/.disk/$id" "${id:0:8}"
make_iso /output/debian-live.iso "$VOLUME_ID" "$id" "$work/grub" "$work/files"
