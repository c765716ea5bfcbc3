//! A signed request as a `curl` command: it works as it stands, in any POSIX shell.

use edgeward_client::SignedRequest;
use http::Method;
use http::header::CONTENT_TYPE;

/// A command that sends just what was signed. `body` is curl's own argument for the body, such as
/// `--data-binary @-`, its words quoted already.
pub(crate) fn command(signed: &SignedRequest, body: Option<&str>) -> String {
    // As is, so that curl neither tidies the path nor expands brackets in it.
    let mut command = match signed.method == Method::HEAD {
        true => "curl -sS --path-as-is -g --head ".to_owned(),
        false => format!("curl -sS --path-as-is -g -X {} ", word(signed.method.as_str())),
    };
    command.push_str(&word(&signed.url));
    for (name, value) in &signed.headers {
        let header = format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        command.push_str(&format!(" \\\n  -H {}", word(&header)));
    }
    if let Some(body) = body {
        if !signed.headers.contains_key(CONTENT_TYPE) {
            // Else curl would send one that was not signed.
            command.push_str(" \\\n  -H 'content-type:'");
        }
        command.push_str(&format!(" \\\n  {body}"));
    }
    command
}

/// One word for a POSIX shell, quoted where it must be.
pub(crate) fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(word("/tmp/agent.json"), "/tmp/agent.json");
        assert_eq!(word("/my folder/it's"), r"'/my folder/it'\''s'");
        assert_eq!(word("a b$c`d\\"), "'a b$c`d\\'");
        assert_eq!(word(""), "''");
        assert_eq!(word("$HOME"), "'$HOME'");
    }
}
