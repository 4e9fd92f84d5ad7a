//! URLs of files on web servers.

/// What is wrong with a URL, and what to do about it.
pub type WrongUrl = (String, &'static str);

/// The file name in an http or https URL, which may be empty; else what is wrong with the URL, and what to do about it.
pub fn check_url(url: &str) -> Result<&str, WrongUrl> {
    let Some((scheme, rest)) = url.split_once("://") else {
        let message = format!("`{}` is no URL", url.escape_debug());
        return Err((message, "write the whole URL, with http:// or https://"));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        // Without the URL: whoever reads the message need not see the secret.
        return Err((
            "a URL with a user name or password cannot be fetched: it would be written into Raptor.lock and logs"
                .to_owned(),
            "take the part before `@` out, and make the file readable without it or put it into the project",
        ));
    }
    if !matches!(scheme, "http" | "https") {
        let message = format!("`{}` is neither an http nor an https URL", url.escape_debug());
        return Err((message, "other protocols are not spoken"));
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Err((format!("`{url}` has no host"), "write the whole URL"));
    }
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err((
            format!("`{}` has characters that no URL may have", url.escape_debug()),
            "write spaces and letters beyond ASCII as `%20` and the like",
        ));
    }
    if url.contains('#') {
        return Err((
            format!("`{url}` has a fragment, which servers never see"),
            "take `#` and what follows out",
        ));
    }
    let path = path.split('?').next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(if matches!(name, "." | "..") { "" } else { name })
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn urls() {
        for (url, expected) in [
            ("https://origin.example/a/tool-1.0.tar.gz", Ok("tool-1.0.tar.gz")),
            ("http://origin.example:8080/a?b=/c", Ok("a")),
            ("http://origin.example/a%20b", Ok("a%20b")),
            ("http://origin.example", Ok("")),
            ("http://origin.example?x", Ok("")),
            ("http://origin.example/a/", Ok("")),
            ("http://origin.example/..", Ok("")),
            ("http://origin.example/me@home", Ok("me@home")),
            ("ftp://origin.example/a", Err("`ftp://origin.example/a` is neither an http nor an https URL")),
            ("a", Err("`a` is no URL")),
            ("http:///a", Err("`http:///a` has no host")),
            ("http://:80/a", Err("`http://:80/a` has no host")),
            (
                "http://origin.example/a b",
                Err("`http://origin.example/a b` has characters that no URL may have"),
            ),
            (
                "http://origin.example/#a",
                Err("`http://origin.example/#a` has a fragment, which servers never see"),
            ),
        ] {
            assert_eq!(
                check_url(url).map_err(|(message, _)| message),
                expected.map_err(String::from),
                "{url}"
            );
        }
        for url in
            ["https://me:secret@origin.example/a", "https://secret@origin.example", "http://:secret@x/"]
        {
            let (message, hint) = check_url(url).unwrap_err();
            assert!(message.contains("password") && !message.contains("secret") && !hint.contains("secret"));
        }
    }
}
