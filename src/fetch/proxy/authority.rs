//! The certificates by which programs in a sandbox take the proxy for any server.
//!
//! The authority is made when it is first needed, lives in the memory of this process alone, and is trusted in
//! sandboxes only. Its certificate begins with the same bytes in each process, so that a layer which has the one of
//! any build is found out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use crate::fetch::Error;

/// Name of the authority, for people who look at certificates.
const NAME: &str = "Raptor build";
/// Serial number of its certificate, in each process.
const SERIAL: &[u8] = b"raptor build";
/// Server configurations that are kept; a build talks to few hosts.
const MAX_KNOWN: usize = 256;
/// The bytes of the certificate that are the same in each process: behind its length, and before its key.
const CONSTANT: std::ops::Range<usize> = 4..132;
/// The same in the first line of the certificate as text.
const CONSTANT_TEXT: std::ops::Range<usize> = 8..64;
/// Length of the certificate as text; signatures have some bytes more or less.
const PEM_LENGTH: usize = 1024;

/// Signs certificates for servers.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
    /// One key for all servers: making keys is the slow part.
    key: KeyPair,
    known: Mutex<BTreeMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    /// That of this process.
    pub fn of_process() -> Result<&'static Authority, Error> {
        static AUTHORITY: OnceLock<Authority> = OnceLock::new();
        if let Some(authority) = AUTHORITY.get() {
            return Ok(authority);
        }
        let made = Authority::new().map_err(|err| trouble(err.to_string()))?;
        Ok(AUTHORITY.get_or_init(|| made))
    }

    fn new() -> Result<Authority, rcgen::Error> {
        let mut params = params(Vec::new(), NAME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from_slice(SERIAL));
        let own_key = KeyPair::generate()?;
        let certificate = params.self_signed(&own_key)?;
        let issuer = Issuer::new(params, own_key);
        Ok(Authority { certificate, issuer, key: KeyPair::generate()?, known: Mutex::default() })
    }

    /// Its certificate, in PEM: a text of the same length in each process, as programs see the sizes of files.
    pub fn pem(&self) -> String {
        let mut pem = self.certificate.pem();
        let padding = PEM_LENGTH.saturating_sub(pem.len());
        pem.extend(std::iter::repeat_n('\n', padding));
        pem
    }

    /// Byte strings of which each file that holds such a certificate, of whatever process, has one.
    pub fn marks(&self) -> Vec<Vec<u8>> {
        let binary = self.certificate.der().get(CONSTANT).unwrap_or_default().to_vec();
        let pem = self.certificate.pem();
        let first = pem.lines().nth(1).unwrap_or_default().as_bytes();
        vec![binary, first.get(CONSTANT_TEXT).unwrap_or_default().to_vec()]
    }

    /// How to be the server of this name or address.
    pub fn server(&self, host: &str) -> Result<Arc<ServerConfig>, Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.get(host) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make_server(host)?);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(host.to_owned(), config.clone());
        Ok(config)
    }

    fn make_server(&self, host: &str) -> Result<ServerConfig, Error> {
        let certificate = self.certify(host).map_err(|err| trouble(format!("{host}: {err}")))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|it| it.with_no_client_auth().with_single_cert(vec![certificate], key))
            .map_err(|err| trouble(err.to_string()))?;
        // The proxy speaks nothing else.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn certify(&self, host: &str) -> Result<CertificateDer<'static>, rcgen::Error> {
        // A common name has at most 64 characters.
        let name = if host.len() > 64 { "a server" } else { host };
        let mut params = params(vec![host.to_owned()], name)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let digest = Sha256::digest(host);
        // Positive, and another one for each host.
        let serial = [&[0x40][..], digest.get(..15).unwrap_or_default()].concat();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        Ok(params.signed_by(&self.key, &self.issuer)?.der().clone())
    }
}

/// What all certificates have in common: they are valid whatever the clock says.
fn params(hosts: Vec<String>, name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
    Ok(params)
}

fn trouble(reason: String) -> Error {
    Error::Setting { setting: "certificates of the recording proxy".into(), reason }
}

/// The host part of `host`, `host:port`, `[address]:port`.
pub fn without_port(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((address, _)) => address,
        None if authority.parse::<IpAddr>().is_ok() => authority,
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_authority_has_the_same_marks() {
        let [one, other] = [(); 2].map(|()| Authority::new().unwrap());
        assert_ne!(one.pem(), other.pem());
        assert_eq!([one.pem().len(), other.pem().len()], [PEM_LENGTH; 2]);
        assert_eq!(one.marks(), other.marks());
        let [binary, text] = one.marks().try_into().unwrap();
        assert_eq!((binary.len(), text.len()), (128, 56));
        let has = |all: &[u8], part: &[u8]| all.windows(part.len()).any(|it| it == part);
        assert!(has(other.certificate.der(), &binary));
        assert!(has(other.pem().as_bytes(), &text));
        // They are of nobody else's certificate.
        assert!(has(&binary, SERIAL) && has(&binary, NAME.as_bytes()));
    }

    #[test]
    fn names_and_addresses_have_certificates() {
        let authority = Authority::new().unwrap();
        for host in ["origin.example", "127.0.0.1", "::1", "a_b.example", &"a.".repeat(60)] {
            let config = authority.server(host).unwrap();
            assert!(Arc::ptr_eq(&config, &authority.server(host).unwrap()), "{host}");
        }
        let cases =
            [("a.b", "a.b"), ("a.b:8443", "a.b"), ("[::1]:1", "::1"), ("::1", "::1"), ("[::1]", "::1")];
        for (authority, host) in cases {
            assert_eq!(without_port(authority), host);
        }
    }
}
