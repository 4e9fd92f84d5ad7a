//! Secrets in URLs: what of a URL people, logs and the lock may see.

use std::borrow::Cow;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// Parameters whose values prove who asks: names in lower case. What only sounds like one (the `pageToken` of a list,
/// say) is none, because it says what is asked for.
const SECRET_PARAMETERS: &[&str] = &[
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "auth_token",
    "client_secret",
    "job_token",
    "jwt",
    "password",
    "private_token",
    "secret",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-credential",
    "x-goog-signature",
];

/// A URL without user and password, and without the values of secret parameters. It may be a relative one.
pub fn shown(url: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(url);
    if let Some(at) = user_info(url) {
        let (before, rest) = url.split_at_checked(at.start).unwrap_or((url, ""));
        shown = format!("{before}{}", rest.get(at.len()..).unwrap_or_default()).into();
    }
    let Some((path, query)) = shown.split_once('?') else { return shown };
    if !query.split('&').any(is_secret) {
        return shown;
    }
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if is_secret(parameter) => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    });
    format!("{path}?{}", parameters.collect::<Vec<_>>().join("&")).into()
}

/// Whether a URL is a shown one that had a secret parameter.
pub fn is_hidden(url: &str) -> bool {
    let Some((_, query)) = url.split_once('?') else { return false };
    query.split('&').any(|it| is_secret(it) && it.ends_with(&format!("={HIDDEN}")))
}

/// Where user and password are, with the `@`.
fn user_info(url: &str) -> Option<std::ops::Range<usize>> {
    let start =
        url.find("//").filter(|at| *at == 0 || url.get(..*at).is_some_and(|it| it.ends_with(':')))? + 2;
    let authority = url.get(start..)?;
    let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    let at = authority.get(..end)?.rfind('@')?;
    Some(start..start + at + 1)
}

fn is_secret(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    !value.is_empty() && SECRET_PARAMETERS.contains(&name.to_ascii_lowercase().as_str())
}

/// What a `Location` means to the client of a URL. Dots in paths stay.
pub fn resolve(url: &str, location: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(authority..).unwrap_or_default();
    let path = authority + rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let cut = |end: usize| url.get(..end).unwrap_or_default();
    if location
        .find("://")
        .is_some_and(|at| !location.get(..at).unwrap_or_default().contains(['/', '?', '#']))
    {
        return location.to_owned();
    }
    if location.starts_with("//") {
        return format!("{}{location}", cut(authority.saturating_sub(2)));
    }
    if location.starts_with('/') {
        return format!("{}{location}", cut(path));
    }
    let query = url.find(['?', '#']).unwrap_or(url.len());
    if location.starts_with('?') {
        return format!("{}{location}", cut(query));
    }
    match cut(query).rfind('/').filter(|slash| *slash >= path) {
        Some(slash) => format!("{}{location}", cut(slash + 1)),
        None => format!("{}/{location}", cut(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let cases = [
            ("http://origin.example/a?b=c&d", "http://origin.example/a?b=c&d"),
            ("https://me:secret@origin.example:8443/a@b", "https://origin.example:8443/a@b"),
            ("https://a@b:secret@origin.example", "https://origin.example"),
            ("//me@origin.example/", "//origin.example/"),
            ("/a//me@b", "/a//me@b"),
            ("https://origin.example/a?x=1&Token=secret&y", "https://origin.example/a?x=1&Token=***&y"),
            ("a?sig=s%3d&X-Amz-Signature=1", "a?sig=***&X-Amz-Signature=***"),
            ("http://origin.example/?pageToken=2&token", "http://origin.example/?pageToken=2&token"),
            ("http://origin.example/token=x", "http://origin.example/token=x"),
            ("x", "x"),
            ("", ""),
        ];
        for (url, expected) in cases {
            assert_eq!(shown(url), expected);
            assert_eq!(shown(expected), expected, "twice");
            assert_eq!(is_hidden(expected), expected.contains("***"), "{expected}");
            assert!(!is_hidden(url) || url == expected);
        }
    }

    #[test]
    fn locations() {
        let url = "https://origin.example/a/b?c=/d";
        let cases = [
            ("http://x/y", "http://x/y"),
            ("//x/y", "https://x/y"),
            ("/y", "https://origin.example/y"),
            ("y?z=://", "https://origin.example/a/y?z=://"),
            ("?y", "https://origin.example/a/b?y"),
        ];
        for (location, expected) in cases {
            assert_eq!(resolve(url, location), expected);
        }
        assert_eq!(resolve("http://origin.example?x", "y"), "http://origin.example/y");
    }
}
