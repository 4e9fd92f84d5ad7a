# Makes EROFS file systems. To be sourced.

# make_erofs OUTPUT UUID DIR: packs DIR.
make_erofs() {
    fixed mkfs.erofs --quiet -zlz4hc --preserve-mtime -U "$2" "$1" "$3"
}
