# Makes XFS file systems. Needs identity.sh, parameters.sh and the shell option extglob. To be sourced.
#
# mkfs.xfs fills a file system from a list that knows neither times nor extended attributes, sockets or the sticky bit;
# xfs_db writes these afterwards. The list has no hard links either: each becomes a file of its own.

# make_xfs OUTPUT SIZE_MB UUID LABEL DIR
make_xfs() {
    local output=$1 uuid=$3 label=$4 dir=$5 list=$1.list
    if [[ -n $(find "$dir" -name '*[[:cntrl:]]*' -print -quit) ]]; then
        fail 'no XFS file system can be made with names that have control characters; take another ROOT_FS'
    fi
    list_tree "$dir" >"$list"
    check_xfs_names "$list"
    xfs_prototype "$dir" "$list" >"$output.proto"
    fixed mkfs.xfs -q -K -m "uuid=$uuid,bigtime=1" -L "$label" -p "$output.proto" "$output"
    { xfs_inodes "$dir" "$list" && xfs_attributes "$dir"; } >"$output.commands"
    fixed xfs_db -x "$output" <"$output.commands" >"$output.log" 2>"$output.errors"
    if [[ -s $output.errors ]]; then
        fail "xfs_db: $(head -n 3 "$output.errors")"
    fi
    # Directories still say that sockets are pipes.
    fixed xfs_repair "$output" >"$output.log" 2>&1 || fail "$(cat "$output.log")"
    rm "$output".*
}

# list_tree DIR: prints a line for everything in DIR: path, type, mode, owner, group, time, link; those of a directory
# right behind it, sorted. Fields are parted by tabs.
list_tree() {
    (cd "$1" && find . -mindepth 1 -printf '%P\t%y\t%m\t%U\t%G\t%T@\t%l\n') | tr / '\001' | sort -t $'\t' -k 1,1 | tr '\001' /
}

# check_xfs_names LIST: refuses names that the list of mkfs.xfs cannot have.
check_xfs_names() {
    local bad
    if bad=$(grep -m 1 -nvP '^(?!.*(^|/)(:|\$\t))[^\t ]+\t[a-z]\t[0-7]+\t\d+\t\d+\t[\d.]+\t(?!:)[^\t ]*$' "$1"); then
        fail "/$(cut -f 1 <<<"${bad#*:}"): no XFS file system can be made with this name or link, for its blanks, dollar" \
            'or colon; take another ROOT_FS'
    fi
}

# xfs_prototype DIR LIST: prints the list for mkfs.xfs.
xfs_prototype() {
    printf '%s\n' none '0 0' "d--$(stat -c %a "$1") $(stat -c '%u %g' "$1")"
    awk -F '\t' -v dir="$1" '
        {
            depth = split($1, names, "/")
            for (; open >= depth; open--) print "$"
            mode = $3 + 0
            special = int(mode / 1000)
            type = $2 == "f" ? "-" : $2 == "s" ? "p" : $2
            printf "%s %s%s%s%03d %s %s", names[depth], type, (special >= 4 ? "u" : "-"),
                (int(special / 2) % 2 ? "g" : "-"), mode % 1000, $4, $5
            if ($2 == "f") printf " %s/%s", dir, $1
            if ($2 == "l") printf " %s", $7
            printf "\n"
            if ($2 == "d") open = depth
        }
        END { for (; open >= 0; open--) print "$" }' "$2"
}

# xfs_inodes DIR LIST: prints commands of xfs_db that write what the list of mkfs.xfs does not have.
xfs_inodes() {
    (stat --printf '\td\t%a\t%u\t%g\t%Y\t\n' "$1" && cat "$2") | awk -F '\t' '
        {
            # A time is a number of nanoseconds since 2^31 seconds before 1970.
            time = sprintf("%.0f000000000", int($6) + 2147483648)
            print "path /" $1
            print "write core.mtime.sec " time
            print "write core.atime.sec " time
            mode = sprintf("%04d", $3)
            if ($2 == "s") print "write core.mode 014" mode
            else if (int(mode / 1000) % 2) print "write core.mode 0" ($2 == "d" ? "4" : "10") mode
        }'
}

# xfs_attributes DIR: prints commands of xfs_db that write extended attributes.
xfs_attributes() {
    local line path= name value space n=0
    getfattr -R -P -h -d -m - -e hex --absolute-names "$1" | while IFS= read -r line; do
        case $line in
            '# file: '*)
                path=${line#\# file: }
                path=/${path#"$1"}
                path=/${path##+(/)}
                n=0
                ;;
            *=0x*)
                name=${line%%=*} value=${line#*=0x}
                if [[ ! $name =~ ^(user|security|trusted)\.[A-Za-z0-9._-]{1,60}$ ]] || ((${#value} > 128)); then
                    fail "$path: no XFS file system can be made with its attribute $name; take another ROOT_FS"
                fi
                case $name in
                    trusted.*) space=r ;;
                    *) space=${name:0:1} ;;
                esac
                # It gets its length first, and then its bytes.
                printf 'path %s\nattr_set -%s -v %s %s\npath %s\nwrite a.sfattr.list[%s].value #%s\n' \
                    "$path" "$space" "$((${#value} / 2))" "${name#*.}" "$path" "$n" "$value"
                n=$((n + 1))
                ;;
        esac
    done
}
