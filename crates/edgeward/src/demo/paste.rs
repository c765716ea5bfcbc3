//! Commands to paste: they work as they stand, in any POSIX shell.

use std::path::Path;

use edgeward_client::Agent;
use http::{HeaderMap, Method};

use super::upstream::{HELLO, STREAM};

/// Where to go from the demo.
pub(super) const NEXT: &str = "  README.md                               Edgeward in five minutes
  docs/curl.md                            enrol, sign and stream with curl and openssl alone
  docs/settings.md                        every setting
  edgeward serve --config edgeward.toml   your own edge, before your own upstream";

/// A call that is signed now: good once, within the edge's window.
pub(super) fn curl(agent: &Agent) -> anyhow::Result<String> {
    let signed = agent.sign(&Method::GET, HELLO, &HeaderMap::new(), b"")?;
    // As is, so that curl tidies nothing that is signed.
    let mut command = format!("curl -sS --path-as-is -g {}", word(&signed.url));
    for (name, value) in &signed.headers {
        command.push_str(&format!(" \\\n  -H {}", word(&format!("{name}: {}", value.to_str()?))));
    }
    Ok(command)
}

/// What else can be done with the agent that stands there.
pub(super) fn more(credentials: &Path) -> String {
    let program = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned());
    let program = word(&program.unwrap_or_else(|| "edgeward".to_owned()));
    let kept = word(&credentials.to_string_lossy());
    let command = |what: String, line: &str| {
        format!("{what:22}{program} agent {line} --credentials {kept}\n")
    };
    [
        command("A fresh one:".to_owned(), &format!("sign GET {HELLO}")),
        command("Signed and sent:".to_owned(), &format!("call GET {HELLO}")),
        command("The stream:".to_owned(), &format!("stream {STREAM}")),
    ]
    .concat()
    .trim_end()
    .to_owned()
}

/// One word for a POSIX shell, quoted where it must be.
fn word(text: &str) -> String {
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
        assert_eq!(word(""), "''");
        assert_eq!(word("$HOME"), "'$HOME'");
    }

    #[test]
    fn further_commands_name_the_credentials() {
        let text = more(Path::new("/my folder/agent.json"));
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().all(|line| line.ends_with("--credentials '/my folder/agent.json'")));
    }
}
