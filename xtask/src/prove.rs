//! The long forms of the tests, and what they showed: reports under docs/proof/.

use std::fmt::Write as _;
use std::process::{Command, Output};

use anyhow::Context as _;

use crate::root;

/// What is written to one file of docs/proof/.
struct Report {
    file: &'static str,
    title: &'static str,
    claims: &'static [Claim],
    /// Which lines of output are worth keeping, and what of them.
    telling: fn(&str) -> Option<&str>,
}

/// One claim, and the tests that show it in their long form.
struct Claim {
    title: &'static str,
    package: &'static str,
    target: &'static [&'static str],
    filter: &'static str,
    /// `EDGEWARD_ROUNDS`, where the tests heed it.
    rounds: u32,
}

const ONE_MACHINE: Report = Report {
    file: "one-machine.md",
    title: "What was proved on one machine",
    claims: ONE_MACHINE_CLAIMS,
    telling: any_line,
};

const MANY_NODES: Report = Report {
    file: "many-nodes.md",
    title: "What was proved of many nodes",
    claims: MANY_NODES_CLAIMS,
    telling: proof_or_verdict,
};

/// How often each loss of nonces happens (`EDGEWARD_LOSSES`).
const LOSSES: &str = "20";

const ONE_MACHINE_CLAIMS: &[Claim] = &[
    Claim {
        title: "64 copies of the same signed bytes at once, 5,000 rounds: exactly one passes in each",
        package: "edgeward-edge",
        target: &["--test", "protocol"],
        filter: "concurrency",
        rounds: 0,
    },
    Claim {
        title: "After kill -9 nothing that was accepted is accepted again; after a clean stop nothing is lost",
        package: "edgeward-edge",
        target: &["--test", "protocol"],
        filter: "restart",
        rounds: 0,
    },
    Claim {
        title: "1,000,000 live nonces in at most 64 MiB, growth included",
        package: "edgeward-store",
        target: &["--test", "nonce_memory"],
        filter: "",
        rounds: 0,
    },
    Claim {
        title: "No confirmed state or event is lost to kill -9 at any moment",
        package: "edgeward-sqlite",
        target: &["--test", "crash"],
        filter: "",
        rounds: 0,
    },
    Claim {
        title: "Streams: byte for byte, first event, cut with their session, what a slow reader makes the edge hold",
        package: "edgeward-edge",
        target: &["--test", "streams"],
        filter: "",
        rounds: 0,
    },
];

const FLEET: &[&str] = &["--test", "fleet"];

const MANY_NODES_CLAIMS: &[Claim] = &[
    Claim {
        title: "The same signed bytes at three nodes at once: exactly one passes, 10,000 rounds on one Redis and on a cluster of three primaries",
        package: "edgeward",
        target: FLEET,
        filter: "once::",
        rounds: 10_000,
    },
    Claim {
        title: "Nothing that was accepted is accepted again when Redis loses its memory: killed and started empty, flushed, started from an old dump, failed over to a replica that was cut off, 20 times each under load",
        package: "edgeward",
        target: FLEET,
        filter: "replay_loss::",
        rounds: 0,
    },
    Claim {
        title: "A cut-off primary that still takes writes: nothing passes twice in the strict mode, and what passes without it, 20 times each under load",
        package: "edgeward",
        target: FLEET,
        filter: "strict::",
        rounds: 0,
    },
    Claim {
        title: "Redis down, frozen or out of reach: 503 in time, never 401, never open; streams go on, blocks arrive, and it ends by itself",
        package: "edgeward",
        target: FLEET,
        filter: "redis_down::",
        rounds: 0,
    },
    Claim {
        title: "Without Redis there is one node; after kill -9 it comes back at once and lets no replay in",
        package: "edgeward",
        target: FLEET,
        filter: "lone::",
        rounds: 0,
    },
    Claim {
        title: "A node whose clock is wrong is refused or takes nothing",
        package: "edgeward",
        target: FLEET,
        filter: "clocks::",
        rounds: 0,
    },
    Claim {
        title: "A session is good at every node once its answer is read, 1,000 times, and refused by all once it is ended",
        package: "edgeward",
        target: FLEET,
        filter: "sessions::",
        rounds: 1_000,
    },
    Claim {
        title: "A block is in force at every node",
        package: "edgeward",
        target: FLEET,
        filter: "blocks::",
        rounds: 1_000,
    },
    Claim {
        title: "The database down: what is remembered goes on for a while, and nothing is lost",
        package: "edgeward",
        target: FLEET,
        filter: "database_down::",
        rounds: 0,
    },
    Claim {
        title: "One round trip to Redis for a request with a nonce, none without",
        package: "edgeward",
        target: FLEET,
        filter: "round_trips::",
        rounds: 1_000,
    },
    Claim {
        title: "No secret that was planted is found in Redis or in the database",
        package: "edgeward",
        target: FLEET,
        filter: "planted::",
        rounds: 0,
    },
];

/// Runs the tests of every claim, or of those of many nodes alone, and writes a report of each kind; the
/// complaints are the claims that did not hold.
pub(crate) fn claims(of: Option<&str>) -> anyhow::Result<Vec<String>> {
    let reports: &[Report] = match of {
        None => &[ONE_MACHINE, MANY_NODES],
        Some("--fleet") => &[MANY_NODES],
        Some(other) => anyhow::bail!("{other} is not known: --fleet, or nothing"),
    };
    let mut complaints = Vec::new();
    for report in reports {
        complaints.extend(report.write()?);
    }
    Ok(complaints)
}

impl Report {
    fn write(&self) -> anyhow::Result<Vec<String>> {
        let mut report = self.head()?;
        let mut complaints = Vec::new();
        for claim in self.claims {
            eprintln!("proving: {}", claim.title);
            let output = claim.test()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let holds = output.status.success();
            writeln!(report, "\n## {}\n", claim.title)?;
            writeln!(report, "{}\n\n```text", if holds { "Holds." } else { "**Does not hold.**" })?;
            for line in text.lines().filter_map(|line| (self.telling)(line)) {
                writeln!(report, "{line}")?;
            }
            writeln!(report, "```")?;
            if !holds {
                let errors = String::from_utf8_lossy(&output.stderr);
                complaints.push(format!("{}\n{text}\n{errors}", claim.title));
            }
        }
        let folder = root().join("docs/proof");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(self.file), report)?;
        Ok(complaints)
    }

    fn head(&self) -> anyhow::Result<String> {
        let commit = Command::new("git")
            .args(["rev-parse", "--short", "HEAD"])
            .current_dir(root())
            .output()?;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Ok(format!(
            "# {}\n\n\
             Written by `just prove`: the tests in their long form, and what they printed. Times are those of a \
             debug build on {cores} cores; none of them decides a test.\n\n\
             Commit {}\n",
            self.title,
            String::from_utf8_lossy(&commit.stdout).trim()
        ))
    }
}

impl Claim {
    fn test(&self) -> anyhow::Result<Output> {
        let mut command = Command::new("cargo");
        command
            .args(["test", "--quiet", "-p", self.package])
            .args(self.target)
            .args(["--", "--nocapture", "--include-ignored", "--test-threads=1", self.filter])
            .env("EDGEWARD_FULL", "1")
            .env("EDGEWARD_LOSSES", LOSSES)
            .current_dir(root());
        if self.rounds > 0 {
            command.env("EDGEWARD_ROUNDS", self.rounds.to_string());
        }
        command.output().context("cargo test")
    }
}

/// Figures and verdicts; not the progress of the test runner.
fn any_line(line: &str) -> Option<&str> {
    let line = line.trim().trim_start_matches('.');
    let noise = line.is_empty()
        || line.starts_with("running ")
        || line.chars().all(|c| c == '.' || c.is_ascii_digit() || c == '/' || c == ' ');
    (!noise).then_some(line)
}

/// What tests tell the proof, and the verdict on all of them.
fn proof_or_verdict(line: &str) -> Option<&str> {
    let told = line.split_once("PROOF ").map(|(_, told)| told);
    told.or_else(|| line.starts_with("test result:").then_some(line))
}

#[cfg(test)]
mod tests {
    use super::proof_or_verdict;

    #[test]
    fn what_tests_tell_is_kept_wherever_it_stands_in_a_line() {
        assert_eq!(proof_or_verdict(".PROOF rounds: 10"), Some("rounds: 10"));
        assert_eq!(proof_or_verdict("PROOF   of that: 1 ms"), Some("  of that: 1 ms"));
        assert_eq!(proof_or_verdict("test result: ok."), Some("test result: ok."));
        assert_eq!(proof_or_verdict("running 3 tests"), None);
    }
}
