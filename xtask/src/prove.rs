//! The long forms of the tests, and what they showed: a report under docs/proof/.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Context as _;

use crate::root;

/// One claim, the tests that show it in their long form, and what of their output is worth keeping.
struct Claim {
    title: &'static str,
    package: &'static str,
    target: &'static [&'static str],
    filter: &'static str,
}

const CLAIMS: &[Claim] = &[
    Claim {
        title: "64 copies of the same signed bytes at once, 5,000 rounds: exactly one passes in each",
        package: "edgeward-edge",
        target: &["--test", "protocol"],
        filter: "concurrency",
    },
    Claim {
        title: "After kill -9 nothing that was accepted is accepted again; after a clean stop nothing is lost",
        package: "edgeward-edge",
        target: &["--test", "protocol"],
        filter: "restart",
    },
    Claim {
        title: "1,000,000 live nonces in at most 64 MiB, growth included",
        package: "edgeward-store",
        target: &["--test", "nonce_memory"],
        filter: "",
    },
    Claim {
        title: "No confirmed state or event is lost to kill -9 at any moment",
        package: "edgeward-sqlite",
        target: &["--test", "crash"],
        filter: "",
    },
    Claim {
        title: "Streams: byte for byte, first event, cut with their session, what a slow reader makes the edge hold",
        package: "edgeward-edge",
        target: &["--test", "streams"],
        filter: "",
    },
];

/// Runs every claim's tests and writes `docs/proof/one-machine.md`; the complaints are the claims
/// that did not hold.
pub(crate) fn claims() -> anyhow::Result<Vec<String>> {
    let mut report = head()?;
    let mut complaints = Vec::new();
    for claim in CLAIMS {
        eprintln!("proving: {}", claim.title);
        let output = Command::new("cargo")
            .args(["test", "--quiet", "-p", claim.package])
            .args(claim.target)
            .args(["--", "--nocapture", "--test-threads=1", claim.filter])
            .env("EDGEWARD_FULL", "1")
            .current_dir(root())
            .output()
            .context("cargo test")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let holds = output.status.success();
        writeln!(report, "\n## {}\n", claim.title)?;
        writeln!(report, "{}\n\n```text", if holds { "Holds." } else { "**Does not hold.**" })?;
        for line in text
            .lines()
            .map(|line| line.trim().trim_start_matches('.'))
            .filter(|line| is_telling(line))
        {
            writeln!(report, "{line}")?;
        }
        writeln!(report, "```")?;
        if !holds {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            complaints.push(format!("{}\n{text}\n{errors}", claim.title));
        }
    }
    let folder = root().join("docs/proof");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("one-machine.md"), report)?;
    Ok(complaints)
}

fn head() -> anyhow::Result<String> {
    let commit =
        Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()).output()?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(format!(
        "# What was proved on one machine\n\n\
         Written by `just prove`: the tests in their long form, and what they printed. Times are those of a \
         debug build on {cores} cores; none of them decides a test.\n\n\
         Commit {}\n",
        String::from_utf8_lossy(&commit.stdout).trim()
    ))
}

/// Figures and verdicts; not the progress of the test runner.
fn is_telling(line: &str) -> bool {
    let noise = line.is_empty()
        || line.starts_with("running ")
        || line.chars().all(|c| c == '.' || c.is_ascii_digit() || c == '/' || c == ' ');
    !noise
}
