//! Who may depend on whom. A crate exists to keep a dependency out; this is where that is held.

use anyhow::Context as _;
use serde_json::Value;

/// What a crate of the workspace may use of the workspace.
const MAY_USE: &[(&str, &[&str])] = &[
    ("edgeward-wire", &[]),
    ("edgeward-core", &["edgeward-wire"]),
    ("edgeward-store", &["edgeward-core", "edgeward-wire"]),
    ("edgeward-sqlite", &["edgeward-store", "edgeward-core", "edgeward-wire"]),
    ("edgeward-postgres", &["edgeward-store", "edgeward-core", "edgeward-wire"]),
    ("edgeward-redis", &["edgeward-store", "edgeward-core", "edgeward-wire"]),
    ("edgeward-keys", &["edgeward-store", "edgeward-core", "edgeward-wire"]),
    ("edgeward-config", &["edgeward-core", "edgeward-wire"]),
    ("edgeward-edge", SHELL),
    ("edgeward-admin", SHELL),
    ("edgeward-client", &["edgeward-wire"]),
    ("edgeward-services", &[]),
    ("edgeward", &[ANY]),
    ("edgeward-testkit", &[ANY]),
    ("xtask", &[ANY]),
];

/// What the two shells may use: everything that decides or describes, no backend.
const SHELL: &[&str] =
    &["edgeward-store", "edgeward-core", "edgeward-wire", "edgeward-keys", "edgeward-config"];

/// Every crate of the workspace but the test kit.
const ANY: &str = "*";

/// Crates that only tests may use.
const FOR_TESTS: &[&str] = &["edgeward-testkit"];

/// Packages of others that only some crates may name.
const ONLY_IN: &[(&str, &[&str])] =
    &[("sqlx", &["edgeward-sqlite", "edgeward-postgres"]), ("redis", &["edgeward-redis"])];

/// Packages of others that pure crates never name: no runtime, no sockets, no clock, no randomness.
const NEVER_IN: &[(&str, &[&str])] =
    &[("edgeward-wire", IMPURE), ("edgeward-core", IMPURE), ("edgeward-config", IMPURE)];

/// What a pure crate is not even built with by a detour. (Entropy for the platform's own use is no runtime.)
const RUNTIMES: &[&str] =
    &["tokio", "mio", "hyper", "axum", "reqwest", "sqlx", "sqlx-core", "redis"];

const IMPURE: &[&str] = &[
    "tokio",
    "tokio-util",
    "tokio-rustls",
    "hyper",
    "hyper-util",
    "hyper-rustls",
    "axum",
    "reqwest",
    "async-trait",
    "socket2",
    "rand",
    "getrandom",
    "chrono",
    "tracing",
];

/// Every wrong arrow of `cargo metadata --no-deps`, as a line. Dev-dependencies are exempt: they are in no build but a test's.
pub(crate) fn wrong(metadata: &Value) -> anyhow::Result<Vec<String>> {
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("no packages in the metadata")?;
    let ours: Vec<&str> = packages.iter().filter_map(name).collect();
    let mut lines = Vec::new();
    for package in packages {
        let from = name(package).context("a package without a name")?;
        let Some((_, may_use)) = MAY_USE.iter().find(|(crate_name, _)| *crate_name == from) else {
            lines.push(format!(
                "{from}: a crate that the table in xtask/src/arrows.rs does not know"
            ));
            continue;
        };
        let dependencies = package
            .get("dependencies")
            .and_then(Value::as_array)
            .with_context(|| format!("no dependencies of {from}"))?;
        for to in dependencies.iter().filter(|to| !is_for_tests(to)).filter_map(name) {
            if let Some(why) = forbidden(from, may_use, to, ours.contains(&to)) {
                lines.push(format!("{from} -> {to}: {why}"));
            }
        }
    }
    Ok(lines)
}

/// What a pure crate is built with, by detours too, and must not be; `tree` is `cargo tree --prefix none` of it.
pub(crate) fn detours(crate_name: &str, tree: &str) -> Vec<String> {
    let mut found: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| RUNTIMES.contains(name))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|name| {
            format!("{crate_name} ~> {name}: by a detour; {crate_name} decides and touches nothing")
        })
        .collect()
}

/// [`wrong`] and [`detours`] of this workspace.
pub(crate) fn wrong_here() -> anyhow::Result<Vec<String>> {
    let mut lines = wrong(&crate::metadata::of_workspace()?)?;
    for (crate_name, _) in NEVER_IN {
        let tree = crate::metadata::cargo(&[
            "tree",
            "--offline",
            "--package",
            crate_name,
            "--edges",
            "normal",
            "--target",
            "all",
            "--prefix",
            "none",
        ])?;
        lines.extend(detours(crate_name, &tree));
    }
    Ok(lines)
}

/// Why an arrow is wrong, if it is.
fn forbidden(from: &str, may_use: &[&str], to: &str, ours: bool) -> Option<String> {
    if ours {
        if FOR_TESTS.contains(&to) && from != "xtask" {
            return Some("it is for tests: a dev-dependency".to_owned());
        }
        let allowed = may_use.contains(&ANY) || may_use.contains(&to);
        return (!allowed).then(|| match may_use {
            [] => format!("{from} uses no crate of this workspace"),
            may_use => format!("{from} may use {}", may_use.join(", ")),
        });
    }
    let only_in = ONLY_IN.iter().find(|(package, homes)| *package == to && !homes.contains(&from));
    if let Some((_, homes)) = only_in {
        return Some(format!("only {} may name it", homes.join(" and ")));
    }
    let never =
        NEVER_IN.iter().any(|(crate_name, packages)| *crate_name == from && packages.contains(&to));
    never.then(|| format!("{from} decides and touches nothing"))
}

fn name(package: &Value) -> Option<&str> {
    package.get("name").and_then(Value::as_str)
}

fn is_for_tests(dependency: &Value) -> bool {
    dependency.get("kind").and_then(Value::as_str) == Some("dev")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{detours, wrong, wrong_here};

    #[test]
    fn forbidden_arrows_are_found_and_allowed_ones_are_not() {
        let metadata = json!({"packages": [
            {"name": "edgeward-wire", "dependencies": [{"name": "serde", "kind": null}]},
            {"name": "edgeward-core", "dependencies": [
                {"name": "edgeward-wire", "kind": null},
                {"name": "tokio", "kind": null},
                {"name": "edgeward-store", "kind": null}]},
            {"name": "edgeward-store", "dependencies": [
                {"name": "edgeward-core", "kind": null},
                {"name": "tokio", "kind": "dev"},
                {"name": "edgeward-testkit", "kind": "dev"}]},
            {"name": "edgeward-sqlite", "dependencies": [{"name": "sqlx", "kind": null}]},
            {"name": "edgeward-keys", "dependencies": [{"name": "sqlx", "kind": "build"}]},
            {"name": "edgeward-edge", "dependencies": [{"name": "edgeward-sqlite", "kind": null}]},
            {"name": "edgeward", "dependencies": [
                {"name": "edgeward-sqlite", "kind": null},
                {"name": "edgeward-testkit", "kind": null}]},
            {"name": "edgeward-testkit", "dependencies": [{"name": "edgeward-sqlite", "kind": null}]},
            {"name": "edgeward-extra", "dependencies": []},
        ]});
        let arrows: Vec<String> = wrong(&metadata)
            .expect("metadata")
            .iter()
            .map(|line| line.split(':').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            arrows,
            [
                "edgeward-core -> tokio",
                "edgeward-core -> edgeward-store",
                "edgeward-keys -> sqlx",
                "edgeward-edge -> edgeward-sqlite",
                "edgeward -> edgeward-testkit",
                "edgeward-extra",
            ]
        );
    }

    #[test]
    fn the_arrows_of_this_workspace_are_right() {
        assert_eq!(wrong_here().expect("cargo"), Vec::<String>::new());
    }

    #[test]
    fn a_runtime_that_comes_by_a_detour_is_found() {
        let tree = "edgeward-core v0.1.0 (/x)\nh2 v0.4.0\ntokio v1.54.0\ntokio v1.54.0 (*)\n";
        let found = detours("edgeward-core", tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("edgeward-core ~> tokio"));
    }

    #[test]
    fn metadata_without_packages_is_an_error_and_not_a_pass() {
        assert!(wrong(&json!({})).is_err());
        assert!(wrong(&json!({"packages": [{"name": "edgeward-wire"}]})).is_err());
    }
}
