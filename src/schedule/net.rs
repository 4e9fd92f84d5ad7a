//! What programs of RUN steps are told, so that they trust the recording proxy, and ask it the same each time.

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
    let others = [
        ("APT_CONFIG", APT_CONF),
        ("WGETRC", WGETRC),
        // Downloads are used once, and the notes on them hold times, as do the logs there.
        ("npm_config_cache", "/tmp/npm-cache"),
        // Whether a newer version is looked for depends on the time of the last look.
        ("npm_config_update_notifier", "false"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ];
    trusting.into_iter().map(|name| (name, CA_FILE)).chain(others)
}

/// The text of the file that `WGETRC` names.
pub fn wgetrc() -> String {
    // What servers say of how they want to be asked next time holds times.
    format!("ca_certificate = {CA_FILE}\nhsts = off\n")
}
