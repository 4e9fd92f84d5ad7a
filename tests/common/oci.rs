//! Images made by hand: layers as tar files, OCI layouts around them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::EntryType;

/// One entry of a layer.
#[derive(Clone)]
pub struct Entry {
    pub path: String,
    pub kind: EntryType,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
    /// Content, or what a link says.
    pub text: String,
    pub xattrs: Vec<(&'static str, Vec<u8>)>,
}

fn entry(path: &str, kind: EntryType, mode: u32, text: &str) -> Entry {
    let (path, text) = (path.to_owned(), text.to_owned());
    Entry { path, kind, mode, owner: (0, 0), mtime: 1_000_000_000, text, xattrs: Vec::new() }
}

pub fn dir(path: &str) -> Entry {
    entry(path, EntryType::Directory, 0o755, "")
}

pub fn file(path: &str, text: &str) -> Entry {
    entry(path, EntryType::Regular, 0o644, text)
}

pub fn symlink(path: &str, target: &str) -> Entry {
    entry(path, EntryType::Symlink, 0o777, target)
}

pub fn hardlink(path: &str, target: &str) -> Entry {
    entry(path, EntryType::Link, 0o644, target)
}

pub fn special(path: &str, kind: EntryType) -> Entry {
    entry(path, kind, 0o600, "")
}

/// The tar file of some entries; names go into the headers as they are.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for it in entries {
        let xattrs: Vec<_> =
            it.xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value)).collect();
        builder
            .append_pax_extensions(xattrs.iter().map(|(name, value)| (name.as_str(), &value[..])))
            .unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(it.kind);
        header.set_mode(it.mode);
        header.set_uid(it.owner.0);
        header.set_gid(it.owner.1);
        header.set_mtime(it.mtime);
        header.as_old_mut().name[..it.path.len()].copy_from_slice(it.path.as_bytes());
        let content = if it.kind == EntryType::Regular { it.text.as_bytes() } else { b"" };
        if it.kind.is_symlink() || it.kind.is_hard_link() {
            header.as_old_mut().linkname[..it.text.len()].copy_from_slice(it.text.as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// A layer as it is stored.
#[derive(Clone)]
pub struct Layer {
    pub media_type: &'static str,
    pub stored: Vec<u8>,
    pub diff_id: String,
}

pub fn plain(tar: Vec<u8>) -> Layer {
    let diff_id = sha256(&tar);
    Layer { media_type: "application/vnd.oci.image.layer.v1.tar", stored: tar, diff_id }
}

pub fn gzip(tar: &[u8]) -> Layer {
    let mut stored = Vec::new();
    flate2::read::GzEncoder::new(tar, flate2::Compression::fast()).read_to_end(&mut stored).unwrap();
    Layer { media_type: "application/vnd.oci.image.layer.v1.tar+gzip", stored, diff_id: sha256(tar) }
}

pub fn zstd(tar: &[u8]) -> Layer {
    let stored = zstd::encode_all(tar, 1).unwrap();
    Layer { media_type: "application/vnd.oci.image.layer.v1.tar+zstd", stored, diff_id: sha256(tar) }
}

/// `security.capability` for cap_net_bind_service, version 2.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Three layers with everything that layers can have.
pub fn varied() -> Vec<Layer> {
    let base = [
        Entry { mtime: 999_999_999, ..dir("./") },
        dir("./dev/"),
        dir("./proc/"),
        dir("./run/"),
        dir("./sys/"),
        Entry { mode: 0o1777, ..dir("./tmp/") },
        dir("etc/"),
        Entry { owner: (1000, 1001), mode: 0o640, mtime: 1_234_567_890, ..file("etc/shadow", "secret") },
        file("etc/gone", "gone"),
        file("etc/replaced", "old"),
        dir("etc/opaque/"),
        file("etc/opaque/old", "old"),
        dir("etc/opaque/sub/"),
        file("etc/opaque/sub/old", "old"),
        dir("etc/dir/"),
        file("etc/dir/a", "a"),
        dir("usr/"),
        dir("usr/bin/"),
        symlink("bin", "usr/bin"),
        symlink("absolute", "/etc/shadow"),
        symlink("dangling", "../../nowhere"),
        Entry { mode: 0o4755, ..file("bin/su", "su") },
        Entry { xattrs: vec![("security.capability", CAPABILITY.to_vec())], ..file("usr/bin/ping", "ping") },
        Entry {
            xattrs: vec![("user.note", b"x".to_vec()), ("user.overlay.opaque", b"y".to_vec())],
            ..dir("var/")
        },
        hardlink("usr/bin/ping6", "usr/bin/ping"),
        special("var/pipe", EntryType::Fifo),
        dir("var/empty/"),
        file("var/becomes-dir", "file"),
        dir("var/becomes-file/"),
        file("var/becomes-file/x", "x"),
    ];
    let middle = [
        file("etc/.wh.gone", ""),
        file("etc/replaced", "new"),
        file("etc/opaque/new", "new"),
        file("etc/opaque/.wh..wh..opq", ""),
        file("var/.wh.empty", ""),
        dir("var/becomes-dir/"),
        file("var/becomes-dir/x", "x"),
        file("var/becomes-file", "file"),
        file("implicit/parents/x", "x"),
        file("etc/dir/.wh.never-there", ""),
        file("nowhere/.wh.x", ""),
    ];
    let top = [
        // What the same layer brings is not hidden, whatever the order.
        file("etc/again", "again"),
        file("etc/.wh.again", ""),
        file("etc/gone", "back"),
        Entry { mode: 0o700, owner: (7, 8), mtime: 1_100_000_000, ..dir("etc/dir/") },
        file("bin/through-link", "x"),
        // From the root on, as some tools write it.
        file("/etc/absolute", "x"),
        hardlink("etc/linked", "/etc/absolute"),
    ];
    vec![gzip(&tar(&base)), plain(tar(&middle)), gzip(&tar(&top))]
}

/// An OCI layout in a directory.
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub fn new(dir: &Path) -> Layout {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { dir: dir.to_path_buf() }
    }

    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest)
    }

    /// Stores a blob; its descriptor.
    pub fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = sha256(content);
        fs::write(self.blob_path(&digest), content).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() })
    }

    /// Stores an image for an architecture of Linux; the descriptor of its manifest.
    pub fn image(&self, architecture: &str, layers: &[Layer]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|it| format!("sha256:{}", it.diff_id)).collect();
        let config = json!({
            "created": "2024-02-03T04:05:06Z", "architecture": architecture, "os": "linux",
            "config": { "Env": ["PATH=/nowhere"], "Cmd": ["nothing"], "WorkingDir": "/nowhere" },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layers: Vec<_> = layers.iter().map(|it| self.blob(it.media_type, &it.stored)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        let mut descriptor =
            self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    }

    /// Stores an index of manifests; its descriptor.
    pub fn nested_index(&self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        self.blob("application/vnd.oci.image.index.v1+json", index.to_string().as_bytes())
    }

    /// Writes `index.json`.
    pub fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
    }

    /// Writes `index.json` for one image.
    pub fn only(&self, layers: &[Layer]) {
        self.index(&[named(self.image("amd64", layers), "latest")]);
    }
}

/// A descriptor with a name.
pub fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    descriptor
}
