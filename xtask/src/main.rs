//! Generation and checks: `cargo run -p xtask -- docs|arrows|bans`.
//!
//! Exit code 0 if all is well, 1 if a check found something, 2 for a wrong call or a failure of its own.

mod arrows;
mod bans;
mod metadata;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

const USAGE: &str = "cargo run -p xtask -- COMMAND

  docs     writes docs/settings.md from the table of settings
  arrows   checks who may depend on whom
  bans     checks that banned packages are in nothing that is built";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let complaints = match command.as_str() {
        "docs" => docs().map(|()| Vec::new()),
        "arrows" => arrows::wrong_here(),
        "bans" => bans::present(),
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

fn docs() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    std::fs::write(&path, edgeward_config::reference_markdown())
        .with_context(|| path.display().to_string())
}
