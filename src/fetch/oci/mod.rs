//! Registries of images, as the distribution specification of the Open Container Initiative has them: what a
//! reference names, and blobs by digest. Blobs are downloaded like all other files; this says how to ask for them.

mod auth;
mod credentials;
mod registry;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oci_spec::image::{Descriptor, ImageManifest};
use raptor_lang::def::DockerReference;
use ureq::Body;
use ureq::http::{HeaderMap, HeaderValue, Response, header};

use super::Wanted;
use super::http::{Call, Client, Error, Refused, request_error};
use crate::image::{self, Image, KINDS, MAX_TEXT, Named, PLATFORM, Problem, check_digest, parse, sha256_of};
use crate::lock::{DockerLayer, DockerPin, DockerPlatform};
use crate::store::Store;
use registry::{Repository, read_bounded, send};

pub(super) use registry::Registries;

/// How this machine reaches registries.
#[derive(Clone, Debug, Default)]
pub struct RegistrySettings {
    /// Hosts (`host` or `host:port`, as references name them) whose certificates are not checked, and that may speak
    /// plain HTTP.
    pub insecure: BTreeSet<String>,
    /// Files with credentials, in the order in which they are looked through.
    pub credentials: Vec<PathBuf>,
}

impl RegistrySettings {
    /// The settings that the environment makes: `RAPTOR_INSECURE_REGISTRIES`, and the files in which docker and podman
    /// keep credentials.
    pub fn from_env() -> RegistrySettings {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let insecure = std::env::var("RAPTOR_INSECURE_REGISTRIES").unwrap_or_default();
        let hosts = insecure.split([',', ' ']).filter(|it| !it.is_empty()).map(str::to_owned);
        let home = var("HOME");
        let below_home = |path: &str| home.as_ref().map(|it| it.join(path));
        let config = var("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let files = [
            var("REGISTRY_AUTH_FILE"),
            var("DOCKER_CONFIG").or_else(|| below_home(".docker")).map(|it| it.join("config.json")),
            var("XDG_RUNTIME_DIR").map(|it| it.join("containers/auth.json")),
            config.map(|it| it.join("containers/auth.json")),
        ];
        RegistrySettings { insecure: hosts.collect(), credentials: files.into_iter().flatten().collect() }
    }
}

/// Why an image cannot be pinned.
enum Trouble {
    Image(Problem),
    Fetch(Error),
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Trouble {
        Trouble::Image(problem)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Fetch(error)
    }
}

impl Client {
    /// Asks the registry what a reference names now, and what that consists of. The configuration of the image is in
    /// the store then.
    pub fn pin_image(
        &self,
        reference: &DockerReference,
        store: &Store,
        cancel: &AtomicBool,
    ) -> Result<DockerPin, Error> {
        let source = Source {
            client: self,
            name: format!("docker://{reference}"),
            repository: Repository::of(reference),
            store,
            cancel,
        };
        let pinned = self.until(cancel, || source.pin(reference));
        match pinned {
            _ if cancel.load(Ordering::Relaxed) => Err(Error::Cancelled),
            Ok(pin) => Ok(pin),
            Err(Trouble::Fetch(error)) => Err(error),
            Err(Trouble::Image(Problem { message, hint })) => {
                Err(Error::Registry { name: source.name, reason: message, hint })
            }
        }
    }

    /// Does something that is cut short when `cancel` is set: also while a server is silent.
    fn until<T>(&self, cancel: &AtomicBool, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if cancel.load(Ordering::Relaxed) {
                        self.shut_down();
                        return;
                    }
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            });
            let result = work();
            done.store(true, Ordering::Relaxed);
            result
        })
    }
}

/// Asks for a blob, named by `docker://HOST/PATH@sha256:DIGEST`.
pub(super) fn blob(client: &Client, call: &Call) -> Result<Response<Body>, Refused> {
    let wrong =
        || Error::Wanted { name: call.url.to_owned(), reason: "this names no blob of a registry".into() };
    let reference = call.url.strip_prefix("docker://").and_then(|it| it.parse::<DockerReference>().ok());
    let reference = reference.ok_or_else(wrong)?;
    let digest = reference.digest.as_deref().ok_or_else(wrong)?;
    let path = format!("blobs/sha256:{digest}");
    send(client, &Repository::of(&reference), call.url, &path, &call.headers)
}

/// An image that is looked at.
struct Source<'a> {
    client: &'a Client,
    /// In messages.
    name: String,
    repository: Repository,
    store: &'a Store,
    cancel: &'a AtomicBool,
}

impl Source<'_> {
    fn pin(&self, reference: &DockerReference) -> Result<DockerPin, Trouble> {
        let wanted = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, tag) => tag.clone().unwrap_or_default(),
        };
        let (text, digest) = self.manifest(&wanted)?;
        let (manifest, manifest_digest) = match Named::parse(&text)? {
            Named::Manifest(manifest) => (*manifest, digest.clone()),
            Named::Index(entries) => {
                let mut read = |it: &Descriptor| self.named(it);
                let fitting = image::fitting(&image::manifests(entries, &mut read)?)?;
                // The first, as the specification has it.
                let chosen = fitting.first().ok_or_else(|| image::problem("there is no image in it"))?;
                let manifest: ImageManifest = parse("the manifest", &self.named(chosen)?)?;
                (manifest, sha256_of(chosen)?)
            }
        };
        let Image { config, settings, epoch, layers } = image::image(&manifest, &mut |it| self.config(it))?;
        let layers = layers.into_iter().map(|it| DockerLayer {
            sha256: it.sha256,
            size: it.size,
            diff_id: it.diff_id,
            packing: it.packing.to_owned(),
        });
        let image = DockerPlatform {
            manifest: manifest_digest,
            config: config.sha256,
            config_size: config.size,
            date: epoch,
            command: settings.command(),
            layers: layers.collect(),
        };
        Ok(DockerPin { digest, platforms: [(PLATFORM.to_owned(), image)].into() })
    }

    /// An index or manifest that another one names.
    fn named(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Trouble> {
        let sha256 = sha256_of(descriptor)?;
        let (text, _) = self.manifest(&format!("sha256:{sha256}"))?;
        if text.len() as u64 != descriptor.size() {
            let (found, expected) = (text.len(), descriptor.size());
            let message =
                format!("the manifest sha256:{sha256} has {found} bytes, where its index says {expected}");
            return Err(image::problem(message).into());
        }
        Ok(text)
    }

    /// The configuration, which stays in the store.
    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Trouble> {
        let (sha256, size) = (sha256_of(descriptor)?, descriptor.size());
        if size > MAX_TEXT {
            return Err(image::problem(format!(
                "its configuration has {size} bytes; {MAX_TEXT} is the most"
            ))
            .into());
        }
        let Repository { host, path } = &self.repository;
        let urls = vec![format!("docker://{host}/{path}@sha256:{sha256}")];
        let wanted = Wanted { name: self.name.clone(), urls, sha256, size };
        let path = self.client.download_until(&wanted, self.store, &|_| {}, self.cancel)?;
        std::fs::read(&path).map_err(|source| Error::File { path, source }.into())
    }

    /// A manifest or index by tag or digest, with its own digest.
    fn manifest(&self, wanted: &str) -> Result<(Vec<u8>, String), Trouble> {
        let mut patience = self.client.patience();
        loop {
            let refused = match self.manifest_once(wanted) {
                Ok(done) => return Ok(done?),
                Err(refused) => refused,
            };
            if !refused.failure.is_transient() || !patience.again(refused.retry_after, self.cancel) {
                return Err(refused.failure.into());
            }
        }
    }

    fn manifest_once(&self, wanted: &str) -> Result<Result<(Vec<u8>, String), Problem>, Refused> {
        let mut headers = HeaderMap::new();
        headers.extend(HeaderValue::from_str(&KINDS.join(", ")).ok().map(|kinds| (header::ACCEPT, kinds)));
        let path = format!("manifests/{wanted}");
        let response = send(self.client, &self.repository, &self.name, &path, &headers)?;
        let said = response.headers().get("docker-content-digest").and_then(|it| it.to_str().ok());
        let said = said.and_then(|it| it.strip_prefix("sha256:")).map(str::to_owned);
        let length = response.body().content_length();
        let text = read_bounded(response, MAX_TEXT).map_err(|err| request_error(&self.name, err.into()))?;
        let limit = MAX_TEXT;
        if text.len() as u64 > limit {
            return Err(Error::TooLong { url: self.name.clone(), limit }.into());
        }
        if length.is_some_and(|it| it != text.len() as u64) {
            let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the connection was cut");
            return Err(request_error(&self.name, cut.into()).into());
        }
        // What was asked for by its digest must have it. A tag says nothing; then the server must not contradict itself.
        let expected = wanted.strip_prefix("sha256:").map(str::to_owned).or(said);
        if let Some(expected) = expected
            && let Err(problem) = check_digest("its manifest", &expected, &text)
        {
            return Ok(Err(problem));
        }
        let digest = format!("{:x}", <sha2::Sha256 as sha2::Digest>::digest(&text));
        Ok(Ok((text, digest)))
    }
}
