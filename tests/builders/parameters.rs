//! Parameters that make no sense are refused, before anything is done.

use super::*;

#[test]
fn bad_values_are_refused() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("disk-image", "ROOT_FS", "zfs", "ROOT_FS is one of: ext4 xfs btrfs; not `zfs`"),
        ("disk-image", "OUTPUT_FORMAT", "iso", "OUTPUT_FORMAT is one of: raw qcow2"),
        ("disk-image", "EFI_MB", "1G", "EFI_MB is a whole number from 4 to 32768, not `1G`"),
        ("disk-image", "BOOT_MB", "08", "BOOT_MB is a whole number"),
        ("disk-image", "SIZE_MB", "100", "SIZE_MB is 100, but everything else takes 547 already"),
        ("disk-image", "GRUB_TIMEOUT", "soon", "GRUB_TIMEOUT is a whole number from -1 to 86400, not `soon`"),
        ("disk-image", "KERNEL_ARGS", "a\nb", "KERNEL_ARGS is one line of text"),
        ("live-disk-image", "FREE_MB", "-1", "FREE_MB is a whole number from 0 to"),
        ("part-image", "USED_MB", "0", "USED_MB is a whole number from 1 to"),
        ("part-image", "LABEL", "a b", "LABEL has letters, digits"),
        ("part-image", "SIZE_MB", "3", "cannot have less than 16"),
        ("docker-image", "FORMAT", "lxc", "FORMAT is one of: docker oci; not `lxc`"),
        ("docker-image", "CMD", "[1]", "CMD is a JSON list of strings"),
        ("docker-image", "ENV", "=x", "ENV has one NAME=VALUE per line, but `=x`"),
        ("docker-image", "PORTS", "http", "PORTS has port numbers"),
        ("docker-image", "NAME", "No Capitals", "is no name of an image"),
        ("docker-image", "TAG", "a b", "TAG is made of"),
        ("docker-image", "WORKDIR", "srv", "WORKDIR is an absolute path, not `srv`"),
        ("tar", "COMPRESSION", "lzma", "COMPRESSION is one of: none gzip zstd; not `lzma`"),
        ("deblive", "GRUB_TIMEOUT", "5s", "GRUB_TIMEOUT is a whole number"),
    ];
    made(As::Root);
    let mut toml = String::new();
    for (n, (builder, name, value, _)) in cases.iter().enumerate() {
        toml += &format!(
            "[run.bad-{n}]\ntarget = \"$std.{builder}\"\ninput = \"boot\"\noutput = \"out\"\nenv.{name} = {value:?}\n"
        );
    }
    let project = project(As::Root);
    project.write("Raptor.lock", &fs::read_to_string(output("Raptor.lock")).unwrap());
    project.write("Raptor.toml", &toml);
    for (n, (_, _, _, message)) in cases.iter().enumerate() {
        project.fails(&["make", &format!("bad-{n}")], &[message]);
        assert!(!project.path("out").exists(), "{message}");
    }
}

#[test]
fn targets_that_make_no_image_are_refused() {
    made(As::Root);
    let project = project(As::Root);
    project.write("Raptor.lock", &fs::read_to_string(output("Raptor.lock")).unwrap());
    project.write("marked.rapt", "FROM image\nWRITE \"\" /etc/.wh.x\n");
    project.write("bare.rapt", "FROM image\nMKDIR /boot\nWRITE \"\" /boot/vmlinuz-1\n");
    project.write(
        "Raptor.toml",
        "[run.kernel]\ntarget = \"$std.disk-image\"\ninput = \"image\"\noutput = \"out\"\n\
         [run.initrd]\ntarget = \"$std.disk-image\"\ninput = \"bare\"\noutput = \"out\"\n\
         [run.marked]\ntarget = \"$std.docker-image\"\ninput = \"marked\"\noutput = \"out\"\n\
         [run.spaces]\ntarget = \"$std.part-image\"\ninput = \"top\"\noutput = \"out\"\nenv.ROOT_FS = \"xfs\"\n\
         [run.full]\ntarget = \"$std.disk-image\"\ninput = \"boot\"\noutput = \"out\"\nenv.USED_MB = \"3\"\nenv.FREE_MB = \"17\"\n\
         env.SIZE_MB = \"551\"\n",
    );
    project.fails(&["make", "kernel"], &["the target has no kernel in /boot: install linux-image-amd64"]);
    project.fails(&["make", "initrd"], &["the target has no /boot/initrd.img-1: install initramfs-tools"]);
    project.fails(&["make", "marked"], &["/etc/.wh.x cannot be in a container image"]);
    project.fails(&["make", "spaces"], &["/srv/two  words: no XFS file system can be made with this name"]);
    project.fails(&["make", "full"], &["cannot have less than 16"]);
}
