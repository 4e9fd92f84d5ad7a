# Makes /output/VERSION.initrd of the newest kernel whose modules are in the layer /input, for a medium with the
# features in the first argument. There is none if the layer has no kernel that could start from it.

set -euo pipefail
shopt -s nullglob
export LC_ALL=C TZ=UTC
umask 022
. /usr/lib/parameters.sh
. /usr/lib/dracut.sh

newest=
for lib in /input/usr/lib /input/lib; do
    if [[ -L $lib || -L /input/usr ]]; then
        continue
    fi
    for modules in "$lib"/modules/*; do
        if [[ -f $modules/modules.dep ]]; then
            newest=$(printf '%s\n' "$newest" "$modules" | sort -V | tail -n 1)
        fi
    done
done
if [[ $newest && ! $(missing_modules "$newest" "$1") ]]; then
    make_initrd "$newest" "$1" "/output/${newest##*/}.initrd"
fi
