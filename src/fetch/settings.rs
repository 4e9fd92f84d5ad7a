//! How this machine reaches the network: proxies, certificates, names, patience.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::ProxyProtocol;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::elsewhere::Elsewhere;
use super::http::Error;
use super::oci::RegistrySettings;

/// Where distributions keep the certificates that the machine trusts.
const CA_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How this machine reaches the network.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every request is an error.
    pub offline: bool,
    /// HTTP proxy for `http:` URLs, used by CONNECT.
    pub http_proxy: Option<String>,
    /// HTTP proxy for `https:` URLs.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy: `host`, `.suffix`, `*.suffix`, `*`.
    pub no_proxy: Vec<String>,
    /// PEM file of the certificates to trust; else the machine's, else those of Mozilla.
    pub ca_file: Option<PathBuf>,
    /// How registries are reached.
    pub registries: RegistrySettings,
    /// Addresses of hosts (`host:port`) that are not looked up.
    pub hosts: BTreeMap<String, SocketAddr>,
    /// What is done about failures that may pass.
    pub retry: Retry,
    /// Time that a server may be silent.
    pub silence: Duration,
    /// Places to look in after all others.
    pub elsewhere: Elsewhere,
}

/// Patience with servers.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// Wait before the second try; doubled for each further one.
    pub first_wait: Duration,
    /// Longest wait, also when the server asks for more.
    pub longest_wait: Duration,
}

impl Settings {
    /// The settings that the environment makes: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy` in lower
    /// or upper case, `SSL_CERT_FILE`.
    pub fn from_env() -> Settings {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let either = |name: &str| var(name).or_else(|| var(&name.to_uppercase()));
        let all = either("all_proxy");
        let no_proxy = either("no_proxy").unwrap_or_default();
        Settings {
            offline: false,
            http_proxy: either("http_proxy").or_else(|| all.clone()),
            https_proxy: either("https_proxy").or(all),
            no_proxy: no_proxy
                .split(',')
                .map(|it| it.trim().to_owned())
                .filter(|it| !it.is_empty())
                .collect(),
            ca_file: var("SSL_CERT_FILE").map(PathBuf::from),
            registries: RegistrySettings::from_env(),
            hosts: BTreeMap::new(),
            retry: Retry {
                attempts: 5,
                first_wait: Duration::from_millis(500),
                longest_wait: Duration::from_secs(30),
            },
            silence: Duration::from_secs(60),
            elsewhere: Elsewhere::default(),
        }
    }
}

/// Which hosts a request may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Any that this machine reaches.
    Any,
    /// Not this machine and what is private to its links: for requests of code that is not trusted.
    Public,
}

/// A proxy by its URL; `setting` is where that comes from.
pub(super) fn proxy(setting: &str, url: &str, no_proxy: &[String]) -> Result<ureq::Proxy, Error> {
    let wrong = |reason: &str| Error::Setting { setting: setting.to_owned(), reason: reason.to_owned() };
    let parsed = ureq::Proxy::new(url).map_err(|_| wrong("not the URL of a proxy"))?;
    if !matches!(parsed.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
        return Err(wrong("only http and https proxies are supported"));
    }
    let mut builder = ureq::Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(user) = parsed.username() {
        builder = builder.username(user);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    let builder = no_proxy.iter().fold(builder, |builder, host| builder.no_proxy(host));
    builder.build().map_err(|_| wrong("not the URL of a proxy"))
}

/// The certificates to trust.
pub(super) fn root_certs(ca_file: Option<&Path>) -> Result<RootCerts, Error> {
    let Some(path) = ca_file.or_else(|| CA_BUNDLES.iter().map(Path::new).find(|path| path.is_file())) else {
        return Ok(RootCerts::WebPki);
    };
    let pem = std::fs::read(path).map_err(|source| Error::File { path: path.to_path_buf(), source })?;
    let certs: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(cert)) => Some(cert),
            _ => None,
        })
        .collect();
    if certs.is_empty() {
        let setting = path.display().to_string();
        return Err(Error::Setting { setting, reason: "there is no certificate in this file".into() });
    }
    Ok(RootCerts::from(certs))
}

/// Looks names up, and keeps untrusted requests away from this machine's own services.
#[derive(Debug)]
pub(super) struct Names {
    pub pinned: BTreeMap<String, SocketAddr>,
    pub reach: Reach,
    /// The machine's own proxy (`host:port`), which may well be on the machine itself.
    pub proxy: Option<String>,
    /// Answers of the last minute. The lock is held while a name is looked up: many connections at once ask once,
    /// for resolvers that drop bursts make each asker wait for seconds.
    pub known: Mutex<BTreeMap<String, (Instant, Vec<SocketAddr>)>>,
}

/// How long an answer is good for.
const NAME_LIFE: Duration = Duration::from_secs(60);

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let name = format!("{}:{port}", uri.host().unwrap_or_default());
        if let Some(addr) = self.pinned.get(&name) {
            let mut addrs = self.empty();
            addrs.push(*addr);
            return Ok(addrs);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, found)) = known.get(&name)
            && when.elapsed() < NAME_LIFE
        {
            let mut addrs = self.empty();
            found.iter().for_each(|addr| addrs.push(*addr));
            return Ok(addrs);
        }
        let addrs = DefaultResolver::default().resolve(uri, config, timeout)?;
        let guarded = self.reach == Reach::Public && self.proxy.as_ref() != Some(&name);
        match addrs.iter().find(|addr| guarded && is_internal(addr.ip())) {
            None => {
                known.insert(name, (Instant::now(), addrs.iter().copied().collect()));
                Ok(addrs)
            }
            Some(addr) => {
                let message = format!("{name} is {}, an address of this machine", addr.ip());
                Err(ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message)))
            }
        }
    }
}

/// Addresses that mean this machine, or its link: metadata services of clouds are there.
pub(super) fn is_internal(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::super::Client;
    use super::super::http::Call;
    use super::super::origin::{Origin, client, ok};
    use super::*;

    fn settings() -> Settings {
        let retry = Retry { attempts: 1, first_wait: Duration::ZERO, longest_wait: Duration::ZERO };
        let (http_proxy, https_proxy, no_proxy, ca_file) = (None, None, vec![], None);
        let (silence, elsewhere) = (Duration::from_secs(60), Elsewhere::default());
        let hosts = BTreeMap::new();
        let registries = RegistrySettings::default();
        Settings {
            offline: false,
            http_proxy,
            https_proxy,
            no_proxy,
            ca_file,
            registries,
            hosts,
            retry,
            silence,
            elsewhere,
        }
    }

    #[test]
    fn proxies_are_used_but_for_some_hosts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http_proxy = Some(format!("http://me:secret@{}", listener.local_addr().unwrap()));
        let proxy = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"] {
                let mut byte = [0];
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0].into());
                }
                asked += &head;
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        let origin = Origin::start(|_, _| ok("direct"));
        let settings = Settings { http_proxy, no_proxy: vec!["127.0.0.1".into()], ..settings() };
        let client = Client::new(settings).unwrap();
        assert_eq!(client.get_text(&origin.url("/"), 99).unwrap(), "direct");
        // Requests that are not trusted go through it as well, although it is on this machine.
        let call = Call { reach: Reach::Public, ..Call::get("http://origin.example/a") };
        let answer = client.call(&call).unwrap().into_body().read_to_string().unwrap();
        assert_eq!(answer, "hi");
        let asked = proxy.join().unwrap().to_ascii_lowercase();
        assert!(asked.starts_with("connect origin.example:80 http/1.1\r\n"), "{asked}");
        assert!(asked.contains("proxy-authorization: basic bwu6c2vjcmv0"), "{asked}");
    }

    #[test]
    fn settings_that_make_no_sense() {
        let check = |settings: Settings, expected: &str| {
            assert_eq!(Client::new(settings).map(|_| ()).unwrap_err().to_string(), expected);
        };
        let socks = Some("socks5://mirror.example".to_owned());
        check(
            Settings { https_proxy: socks, ..settings() },
            "https_proxy: only http and https proxies are supported",
        );
        check(Settings { http_proxy: Some("::".into()), ..settings() }, "http_proxy: not the URL of a proxy");
        check(
            Settings { ca_file: Some("/dev/null".into()), ..settings() },
            "/dev/null: there is no certificate in this file",
        );
        check(
            Settings { ca_file: Some("/nowhere/x.pem".into()), ..settings() },
            "/nowhere/x.pem: No such file or directory (os error 2)",
        );
    }

    #[test]
    fn untrusted_requests_do_not_reach_this_machine() {
        let origin = Origin::start(|_, _| ok("secret"));
        let url = origin.url("/");
        let call = |reach| client().call(&Call { reach, ..Call::get(&url) });
        assert!(call(Reach::Any).is_ok());
        let error = call(Reach::Public).unwrap_err();
        assert!(error.to_string().ends_with("is 127.0.0.1, an address of this machine"), "{error}");
        assert!(!error.is_transient());
        for ip in ["127.8.9.1", "::1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1", "fe80::1"] {
            assert!(is_internal(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["10.0.0.1", "192.168.1.1", "2001:db8::1"] {
            assert!(!is_internal(ip.parse().unwrap()), "{ip}");
        }
    }
}
