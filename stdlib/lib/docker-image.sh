# Makes /output/image.tar from the layers in /input, each of which is a tar file already.
#
# The file is an OCI image layout: blobs/sha256/ has layers, configurations and manifests, and index.json lists the
# images. With FORMAT=docker there is manifest.json besides, which says the same as `docker save` does.

set -euo pipefail
shopt -s extglob inherit_errexit
export LC_ALL=C TZ=UTC
umask 022
. /usr/lib/parameters.sh
. /usr/lib/tar.sh
. /usr/lib/identity.sh

: "${FORMAT=docker}" "${NAME=}" "${TAG=latest}" "${CMD=}" "${ENTRYPOINT=}" "${ENV=}" "${LABELS=}"
: "${WORKDIR=}" "${RUN_AS=}" "${PORTS=}" "${VOLUMES=}" "${SIGNAL=}"
one_of FORMAT docker oci
if [[ $FORMAT == docker ]]; then
    : "${COMPRESSION=none}"
else
    : "${COMPRESSION=gzip}"
fi
one_of COMPRESSION none gzip zstd
one_line NAME TAG CMD ENTRYPOINT WORKDIR RUN_AS PORTS VOLUMES SIGNAL

if [[ ! $TAG =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]]; then
    fail "TAG is made of at most 128 letters, digits, \`_\`, \`.\` and \`-\`, not \`$TAG\`"
fi
if [[ $WORKDIR && $WORKDIR != /* ]]; then
    fail "WORKDIR is an absolute path, not \`$WORKDIR\`"
fi
mapfile -t targets < <(jq -r '.targets[]' /input/raptor.json)
if ((${#targets[@]} == 0)); then
    fail 'there is no input to make an image of'
fi
if [[ $NAME ]] && ((${#targets[@]} > 1)); then
    fail 'NAME is for a single input: several are named after themselves'
fi

work=$(TMPDIR=/var/tmp mktemp -d)
blobs=$work/image/blobs/sha256
mkdir -p "$blobs"
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
declare -A diff_ids=() layer_blobs=()

# command_of NAME: prints the variable NAME, a command, as a JSON list; null if it is empty.
command_of() {
    local text=${!1}
    case $text in
        '') echo null ;;
        '['*) jq -ce 'if all(.[]; type == "string") then . else error end' <<<"$text" 2>/dev/null ||
            fail "$1 is a JSON list of strings, or a text for the shell; not \`$text\`" ;;
        *) jq -cn --arg text "$text" '["/bin/sh", "-c", $text]' ;;
    esac
}

# assignments NAME: prints the lines NAME=VALUE of the variable NAME as a JSON list of [NAME, VALUE].
assignments() {
    local line
    while IFS= read -r line; do
        if [[ $line =~ ^[[:space:]]*$ ]]; then
            continue
        elif [[ $line != [!=]*=* ]]; then
            fail "$1 has one NAME=VALUE per line, but \`$line\`"
        fi
        jq -cn --arg name "${line%%=*}" --arg value "${line#*=}" '[$name, $value]'
    done <<<"${!1}" | jq -cs .
}

# ports: prints PORTS as a JSON list of PORT/PROTOCOL.
ports() {
    local port
    for port in $PORTS; do
        if [[ ! $port =~ ^([1-9][0-9]{0,4})(/(tcp|udp|sctp))?$ ]] || ((BASH_REMATCH[1] > 65535)); then
            fail "PORTS has port numbers, perhaps with /tcp, /udp or /sctp behind; not \`$port\`"
        fi
        [[ $port == */* ]] || port+=/tcp
        printf '%s\n' "$port"
    done | jq -R . | jq -cs .
}

# settings: prints the part of the configuration that says how the image is run; what is not set is left out.
settings() {
    local cmd entrypoint env labels port_list
    cmd=$(command_of CMD)
    entrypoint=$(command_of ENTRYPOINT)
    env=$(assignments ENV)
    labels=$(assignments LABELS)
    port_list=$(ports)
    # What docker gives a container without a PATH would not be there in other programs.
    jq -cSn --argjson cmd "$cmd" --argjson entrypoint "$entrypoint" --argjson env "$env" \
        --argjson labels "$labels" --argjson ports "$port_list" --arg volumes "$VOLUMES" \
        --arg workdir "$WORKDIR" --arg user "$RUN_AS" --arg signal "$SIGNAL" '
        def nonempty: if length == 0 then null else . end;
        def set: nonempty | if . then map({(.): {}}) | add else null end;
        {
            Cmd: $cmd,
            Entrypoint: $entrypoint,
            Env: (if any($env[]; .[0] == "PATH") then [] else
                [["PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]] end + $env
                | map(join("="))),
            ExposedPorts: ($ports | set),
            Labels: ($labels | nonempty | if . then map({(.[0]): .[1]}) | add else null end),
            StopSignal: ($signal | nonempty),
            User: ($user | nonempty),
            Volumes: ($volumes | split(" ") | map(select(. != "")) | set),
            WorkingDir: ($workdir | nonempty)
        } | with_entries(select(.value != null))'
}

# add_blob FILE: makes a file a blob; prints its digest.
add_blob() {
    local digest
    digest=$(sha256sum "$1" | cut -c 1-64)
    mv "$1" "$blobs/$digest"
    printf '%s\n' "$digest"
}

# add_layer LAYER: makes a layer a blob, if it is none yet.
add_layer() {
    local layer=$1
    if [[ ! ${layer_blobs[$layer]-} ]]; then
        diff_ids[$layer]=$(sha256sum "/input/$layer" | cut -c 1-64)
        compress "$COMPRESSION" <"/input/$layer" >"$work/layer"
        layer_blobs[$layer]=$(add_blob "$work/layer")
    fi
}

# describe MEDIA_TYPE DIGEST: prints what refers to a blob.
describe() {
    jq -cn --arg type "$1" --arg digest "$2" --argjson size "$(stat -c %s "$blobs/$2")" \
        '{mediaType: $type, digest: "sha256:\($digest)", size: $size}'
}

# image_name TARGET: prints what the image of a target is called.
image_name() {
    local name=${NAME:-$1}
    if [[ ! $NAME ]]; then
        # Names of modules may have what names of images may not.
        name=${name,,}
        name=${name//[^a-z0-9]/-}
        name=${name//+(-)/-}
        name=${name#-}
        name=${name%-}
    fi
    # Host and port may stand in front, which gives capitals no place but there.
    if [[ ! $name =~ ^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+(([._]|__|-+|/)[a-z0-9]+)*$ ]]; then
        fail "\`$name\` is no name of an image: small letters and digits, with \`.\`, \`_\`, \`-\` or \`/\` between them"
    fi
    printf '%s:%s\n' "$name" "$TAG"
}

# add_image TARGET: makes the configuration and the manifest of a target, and adds them to the lists of images.
add_image() {
    local target=$1 reference layer config manifest media_type
    local layers=()
    reference=$(image_name "$target")
    if [[ -e $work/references ]] && grep -qxF -e "$reference" "$work/references"; then
        fail "two inputs would both be called $reference"
    fi
    printf '%s\n' "$reference" >>"$work/references"

    mapfile -t layers < <(jq -r --arg target "$target" '.layers[$target][]' /input/raptor.json)
    for layer in "${layers[@]}"; do
        add_layer "$layer"
        # The entry of a layer is its name with a hash behind it.
        jq -cn --arg name "${layer%-*}" --arg diff "${diff_ids[$layer]}" '{name: $name, diff: "sha256:\($diff)"}'
    done >"$work/history"
    jq -cSs --arg created "$created" --argjson settings "$settings" '{
            architecture: "amd64",
            config: $settings,
            created: $created,
            history: map({created: $created, created_by: "raptor \(.name)"}),
            os: "linux",
            rootfs: {type: "layers", diff_ids: map(.diff)}
        }' "$work/history" >"$work/config"
    config=$(add_blob "$work/config")

    media_type=application/vnd.oci.image.layer.v1.tar
    if [[ $COMPRESSION != none ]]; then
        media_type+=+$COMPRESSION
    fi
    for layer in "${layers[@]}"; do
        describe "$media_type" "${layer_blobs[$layer]}"
    done >"$work/layers"
    jq -cSs --argjson config "$(describe application/vnd.oci.image.config.v1+json "$config")" '{
            schemaVersion: 2,
            mediaType: "application/vnd.oci.image.manifest.v1+json",
            config: $config,
            layers: .
        }' "$work/layers" >"$work/manifest"
    manifest=$(add_blob "$work/manifest")

    describe application/vnd.oci.image.manifest.v1+json "$manifest" | jq -cS --arg name "$reference" \
        '. + {annotations: {"org.opencontainers.image.ref.name": $name}}' >>"$work/index"
    jq -cSs --arg config "blobs/sha256/$config" --arg tag "$reference" \
        '{Config: $config, RepoTags: [$tag], Layers: map("blobs/sha256/" + (.digest | ltrimstr("sha256:")))}' \
        "$work/layers" >>"$work/docker"
}

settings=$(settings)
for target in "${targets[@]}"; do
    add_image "$target"
done

printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
jq -cSs '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}' \
    "$work/index" >"$work/image/index.json"
if [[ $FORMAT == docker ]]; then
    jq -cSs . "$work/docker" >"$work/image/manifest.json"
fi
cd "$work/image"
plain_tar --create --file /output/image.tar --owner=0 --group=0 --mode=a=rX,u+w --mtime="@$SOURCE_DATE_EPOCH" -- *
