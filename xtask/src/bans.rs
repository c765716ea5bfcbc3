//! Packages that nothing here may be built with: the bans of `deny.toml`, checked where cargo-deny is not at hand.

use anyhow::ensure;

use crate::metadata::cargo;

/// A second TLS or crypto stack, system OpenSSL, and an RSA with a known timing leak (RUSTSEC-2023-0071).
pub(crate) const BANNED: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls", "rsa"];

/// Every banned package that is in a build on any target, as a line.
pub(crate) fn present() -> anyhow::Result<Vec<String>> {
    let tree = cargo(&[
        "tree",
        "--workspace",
        "--offline",
        "--locked",
        "--target",
        "all",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    ensure!(
        tree.lines().any(|line| line.starts_with("edgeward-wire ")),
        "cargo tree shows no crate of ours"
    );
    Ok(banned(&tree))
}

fn banned(tree: &str) -> Vec<String> {
    let mut names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| BANNED.contains(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| format!("{name}: banned, and built; `cargo tree --target all -i {name}` shows what brings it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{BANNED, banned};

    #[test]
    fn a_banned_package_is_found_once_and_only_by_its_whole_name() {
        let found =
            banned("edgeward v0.1.0 (/x)\nring v0.17.14\nstring-ring v1.0.0\nring v0.17.14 (*)\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("ring:"));
        assert!(banned("edgeward v0.1.0 (/x)\n").is_empty());
    }

    #[test]
    fn deny_toml_bans_the_same_packages() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deny.toml");
        let text = std::fs::read_to_string(path).expect("deny.toml");
        for name in BANNED {
            assert!(text.contains(&format!("crate = \"{name}\"")), "{name}");
        }
    }
}
