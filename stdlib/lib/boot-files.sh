# Finds files of a target in its layers, without putting them together. To be sourced.
#
# A function takes the directories of the layers, the topmost first. A character device is a whiteout: what
# it hides in the layers below is not there.

# find_file PATH LAYER…: prints where the file is that the target has at PATH; fails if it has none.
find_file() {
    local path=$1 layer parent
    shift
    for layer; do
        if [[ -e $layer/$path || -L $layer/$path ]]; then
            printf '%s\n' "$layer/$path"
            [[ -f $layer/$path ]]
            return
        fi
        parent=$path
        while [[ $parent == */* ]]; do
            parent=${parent%/*}
            if [[ -c $layer/$parent ]]; then
                return 1
            fi
        done
    done
    return 1
}

# find_kernel LAYER…: prints the version of the newest kernel of the topmost layer that has one in /boot.
find_kernel() {
    local layer file version newest=
    local -A removed=()
    for layer; do
        if [[ -c $layer/boot ]]; then
            return 1
        fi
        for file in "$layer"/boot/vmlinuz-*; do
            version=${file##*/vmlinuz-}
            if [[ -c $file ]]; then
                removed[$version]=1
            elif [[ -f $file && -z ${removed[$version]-} ]]; then
                newest=$(printf '%s\n' "$newest" "$version" | sort -V | tail -n 1)
            fi
        done
        if [[ $newest ]]; then
            printf '%s\n' "$newest"
            return
        fi
    done
    return 1
}
