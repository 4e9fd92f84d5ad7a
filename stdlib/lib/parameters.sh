# Checks the parameters of a builder, which are environment variables. To be sourced.

# fail TEXT…: says on standard error why there can be no image, and ends the build.
fail() {
    echo "$*" >&2
    exit 1
}

# whole_number NAME LEAST MOST: refuses a value of the variable NAME that is no decimal number, or out of range.
whole_number() {
    if [[ ! ${!1} =~ ^(-?[1-9][0-9]{0,8}|0)$ ]] || ((${!1} < $2 || ${!1} > $3)); then
        fail "$1 is a whole number from $2 to $3, not \`${!1}\`"
    fi
}

# one_of NAME VALUE…: refuses a value of the variable NAME that is none of these.
one_of() {
    local name=$1 value
    shift
    for value; do
        if [[ ${!name} == "$value" ]]; then
            return
        fi
    done
    fail "$name is one of: $*; not \`${!name}\`"
}

# one_line NAME…: refuses values of these variables that have control characters, such as line breaks.
one_line() {
    local name
    for name; do
        if [[ ${!name} == *[[:cntrl:]]* ]]; then
            fail "$name is one line of text"
        fi
    done
}

# The parameters of boot menus: GRUB_TIMEOUT, CONSOLE and KERNEL_ARGS, with their defaults.
boot_parameters() {
    : "${GRUB_TIMEOUT=5}" "${CONSOLE=tty0 ttyS0,115200}" "${KERNEL_ARGS=}"
    whole_number GRUB_TIMEOUT -1 86400
    one_line CONSOLE KERNEL_ARGS
}
