# Packs the layer in /input as /output/layer.erofs. Whiteouts are character devices 0:0 there too.

set -euo pipefail
export LC_ALL=C TZ=UTC
. /usr/lib/identity.sh
. /usr/lib/erofs.sh
. /usr/lib/tar.sh

identify layer "$(tree_digest /input)"
make_erofs /output/layer.erofs "$(uuid layer)" /input
