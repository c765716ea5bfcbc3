//! Flags that say settings; they stand above the environment and the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use edgeward_config::{Faults, Loaded, Sources};
use edgeward_edge::clock::SystemClock;
use edgeward_store::Clock as _;

/// Where settings come from besides the environment.
#[derive(Debug, Clone, Args)]
pub(crate) struct SettingArgs {
    /// The settings file (EDGE_CONFIG)
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// The folder for what the edge keeps (EDGE_DATA_DIR)
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
    /// The public address (EDGE_LISTEN); port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// The operators' address (EDGE_ADMIN_LISTEN)
    #[arg(long, value_name = "ADDR:PORT")]
    admin_listen: Option<String>,
    /// Any setting, by its name; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write NAME=VALUE, such as EDGE_AUDIENCE=prod".to_owned()),
    }
}

impl SettingArgs {
    /// Everything that the process was given.
    pub(crate) fn sources(&self) -> Result<Sources, Faults> {
        let mut flags: BTreeMap<String, String> = self.set.iter().cloned().collect();
        let path = |path: &PathBuf| path.display().to_string();
        let named = [
            ("EDGE_CONFIG", self.config.as_ref().map(path)),
            ("EDGE_DATA_DIR", self.data_dir.as_ref().map(path)),
            ("EDGE_LISTEN", self.listen.clone()),
            ("EDGE_ADMIN_LISTEN", self.admin_listen.clone()),
        ];
        flags.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Sources::from_process(flags)
    }

    /// The settings, validated.
    pub(crate) fn load(&self) -> Result<Loaded, Faults> {
        edgeward_config::load(&self.sources()?, now_ms())
    }
}

/// The wall clock, for settings that end on a date.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemClock::new().now().wall.0).unwrap_or(i64::MAX)
}
