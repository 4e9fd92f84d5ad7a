# How big an image becomes: FREE_MB, USED_MB and SIZE_MB. Needs file-systems.sh and parameters.sh. To be sourced.

tables_mb=0
# The most that an image may have, in MiB: 16 TiB.
most_mb=16777216

# plan_sizes OTHER_MB ROOT_FS DIR: sets USED_MB, which is measured, FREE_MB and SIZE_MB where they are not set, and
# root_mb, what SIZE_MB leaves to the file system of DIR besides OTHER_MB for all others.
#
# tables_mb is what partition tables and gaps take; it counts as used.
plan_sizes() {
    local other=$1 type=$2 dir=$3 name least
    : "${FREE_MB=512}" "${USED_MB=}" "${SIZE_MB=}"
    whole_number FREE_MB 0 "$most_mb"
    for name in USED_MB SIZE_MB; do
        if [[ ${!name} ]]; then
            whole_number "$name" 1 "$most_mb"
        fi
    done
    if [[ ! $USED_MB ]]; then
        USED_MB=$(($(tree_mb "$dir") + tables_mb))
    fi
    if [[ ! $SIZE_MB ]]; then
        SIZE_MB=$((other + USED_MB + FREE_MB))
        least=$((other + tables_mb + $(least_mb "$type")))
        SIZE_MB=$((SIZE_MB < least ? least : SIZE_MB))
    fi
    root_mb=$((SIZE_MB - other - tables_mb))
    if ((root_mb < 1)); then
        fail "SIZE_MB is $SIZE_MB, but everything else takes $((other + tables_mb)) already"
    fi
}
