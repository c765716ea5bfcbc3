//! Settings that are fine, to which each test adds the one thing that is not.

#![allow(dead_code, reason = "each test uses some of it")]

use std::path::PathBuf;

use edgeward_config::{Finding, Loaded, Profile, Sources, load};

/// 2026-11-24T00:00:00Z.
pub(crate) const NOW: i64 = 1_795_478_400_000;

pub(crate) const SECRET: &str = "correct-horse-battery-staple-0123456789";

/// Production settings about which there is nothing to say.
pub(crate) const PRODUCTION: &[(&str, &str)] = &[
    ("EDGE_PROFILE", "production"),
    ("EDGE_AUDIENCE", "edge-prod"),
    ("EDGE_PUBLIC_URL", "https://edge.example"),
    ("EDGE_KEK", "env:WRAPPING_KEY"),
    ("WRAPPING_KEY", SECRET),
    ("OWNER_JWKS_URL", "https://id.example/jwks.json"),
    ("OWNER_ISSUER", "https://id.example"),
    ("OWNER_AUDIENCE", "authenticated"),
];

pub(crate) const DEVELOPMENT: &[(&str, &str)] = &[];

pub(crate) fn env(base: &[(&str, &str)], more: &[(&str, &str)]) -> Sources {
    let pairs = base.iter().chain(more);
    Sources {
        env: pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Sources::default()
    }
}

pub(crate) fn with_file(mut sources: Sources, text: &str) -> Sources {
    sources.file = Some((PathBuf::from("edgeward.toml"), text.to_owned()));
    sources
}

pub(crate) fn loaded(sources: &Sources) -> Loaded {
    load(sources, NOW).unwrap_or_else(|faults| panic!("{faults}"))
}

pub(crate) fn faults(sources: &Sources) -> Vec<Finding> {
    match load(sources, NOW) {
        Ok(_) => panic!("loaded: {sources:?}"),
        Err(faults) => faults.findings().to_vec(),
    }
}

pub(crate) fn of(profile: Profile) -> &'static [(&'static str, &'static str)] {
    match profile {
        Profile::Development => DEVELOPMENT,
        Profile::Production => PRODUCTION,
    }
}
