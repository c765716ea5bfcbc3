//! What cargo says of this workspace.

use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// `cargo metadata` without the packages of others.
pub(crate) fn of_workspace() -> anyhow::Result<Value> {
    let output = cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"])?;
    serde_json::from_str(&output).context("cargo metadata gave no JSON")
}

/// What a cargo command prints.
pub(crate) fn cargo(arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("cargo does not start")?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("cargo printed something that is not UTF-8")
}
