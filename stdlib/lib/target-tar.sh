# Makes /output/target.tar from the target in /input.

set -euo pipefail
export LC_ALL=C TZ=UTC
. /usr/lib/parameters.sh
. /usr/lib/tar.sh

: "${COMPRESSION=none}"
one_of COMPRESSION none gzip zstd

plain_tar --create --directory /input . | compress "$COMPRESSION" >/output/target.tar
