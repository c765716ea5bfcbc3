//! Commands to paste: they work as they stand, in any POSIX shell.

use std::path::Path;

use edgeward_client::Agent;
use http::{HeaderMap, Method};

use super::upstream::{HELLO, STREAM};
use crate::curl::{self, word};

/// Where to go from the demo.
pub(super) const NEXT: &str = "  README.md                               Edgeward in five minutes
  docs/curl.md                            enrol, sign and stream with curl and openssl alone
  docs/settings.md                        every setting
  docs/many-nodes.md                      several edges that act as one
  edgeward serve --config edgeward.toml   your own edge, before your own upstream";

/// A call that is signed now: good once, within the edge's window.
pub(super) fn curl(agent: &Agent) -> edgeward_client::Result<String> {
    let signed = agent.sign(&Method::GET, HELLO, &HeaderMap::new(), b"")?;
    Ok(curl::command(&signed, None))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_commands_name_the_credentials() {
        let text = more(Path::new("/my folder/agent.json"));
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().all(|line| line.ends_with("--credentials '/my folder/agent.json'")));
    }
}
