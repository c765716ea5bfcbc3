//! Generation and checks: `cargo run -p xtask -- docs|arrows|bans|links|threats|prove`.
//!
//! Exit code 0 if all is well, 1 if a check found something, 2 for a wrong call or a failure of its own.

mod arrows;
mod bans;
mod links;
mod markdown;
mod metadata;
mod prove;
mod threats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

const USAGE: &str = "cargo run -p xtask -- COMMAND

  docs     writes docs/settings.md from the table of settings
  arrows   checks who may depend on whom
  bans     checks that banned packages are in nothing that is built
  links    checks that relative links of all Markdown pages lead somewhere
  threats  checks that every page of docs/threats/ names tests, and that tests which pages name are there
  prove    runs the long forms of the tests and writes docs/proof/one-machine.md and many-nodes.md;
           with --fleet those of many nodes alone";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let complaints = match command.as_str() {
        "docs" => docs().map(|()| Vec::new()),
        "arrows" => arrows::wrong_here(),
        "bans" => bans::present(),
        "links" => links::broken(&root()),
        "prove" => prove::claims(std::env::args().nth(2).as_deref()),
        "threats" => threats::unproven(&root()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match complaints {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            for complaint in complaints {
                eprintln!("{complaint}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The project's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn docs() -> anyhow::Result<()> {
    let path = root().join("docs/settings.md");
    std::fs::write(&path, edgeward_config::reference_markdown())
        .with_context(|| path.display().to_string())
}
