//! What programs of RUN steps are told, so that they trust the recording proxy.

use super::apt::APT_CONF;
use crate::fetch::proxy::CA_FILE;

/// Settings of wget, whose library looks at no variable.
const WGETRC: &str = "/run/raptor/wgetrc";

/// Variables of RUN steps, unless ENV sets them. They are the same in every build.
pub fn env() -> impl Iterator<Item = (&'static str, &'static str)> {
    let trusting = [
        // OpenSSL, and so Python, Ruby, Perl; Go; Rust.
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "NODE_EXTRA_CA_CERTS",
        "npm_config_cafile",
        "CARGO_HTTP_CAINFO",
    ];
    trusting.into_iter().map(|name| (name, CA_FILE)).chain([("APT_CONFIG", APT_CONF), ("WGETRC", WGETRC)])
}

/// The text of the file that `WGETRC` names.
pub fn wgetrc() -> String {
    // What servers say of how they want to be asked next time holds times.
    format!("ca_certificate = {CA_FILE}\nhsts = off\n")
}
