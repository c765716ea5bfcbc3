//! The two ways to look at settings: to start with them, and to judge them.

use serde::Serialize;

use crate::build::build;
use crate::resolve::{Effective, Origin, Outcome, resolve};
use crate::routes;
use crate::rules::{self, Case};
use crate::setting::Secrecy;
use crate::sources::{Files, LocalFiles};
use crate::table::settings;
use crate::{Config, Faults, Finding, Level, Profile, Sources};

/// Settings with which the edge can start.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings as types.
    pub config: Config,
    /// Every setting with its value as it may be shown, in the order of the reference page; then the routes.
    pub effective: Vec<EffectiveRow>,
    /// What the edge starts with and says.
    pub warnings: Vec<Finding>,
}

/// One line of what `edgeward config` prints. No field ever holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EffectiveRow {
    /// The setting's name, or `routes[0]`.
    pub setting: String,
    /// The value, `***` for a secret, empty for none.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// Whether the value, or the secrets in it, are masked.
    pub masked: bool,
}

/// Validates settings. Reads the files that they name; `now_ms` is the wall clock in epoch milliseconds.
///
/// # Errors
/// With every fault there is.
pub fn load(sources: &Sources, now_ms: i64) -> Result<Loaded, Faults> {
    load_with(sources, now_ms, &LocalFiles)
}

/// [`load`] with another way to files.
///
/// # Errors
/// With every fault there is.
pub fn load_with(sources: &Sources, now_ms: i64, files: &dyn Files) -> Result<Loaded, Faults> {
    let judged = evaluate(sources, None, now_ms, files);
    let (faults, warnings): (Vec<_>, Vec<_>) =
        judged.findings.into_iter().partition(|finding| finding.level == Level::Error);
    match judged.config {
        Some(config) if faults.is_empty() => {
            Ok(Loaded { config, effective: judged.effective, warnings })
        }
        Some(_) | None => Err(Faults::new(faults)),
    }
}

/// What [`load`] would find under a profile, or under the one that the settings name, without starting anything.
#[must_use]
pub fn judge(sources: &Sources, profile: Option<Profile>, now_ms: i64) -> Vec<Finding> {
    evaluate(sources, profile, now_ms, &LocalFiles).findings
}

struct Judged {
    /// There if nothing is unfit; rules may have been broken all the same.
    config: Option<Config>,
    effective: Vec<EffectiveRow>,
    findings: Vec<Finding>,
}

fn evaluate(sources: &Sources, profile: Option<Profile>, now_ms: i64, files: &dyn Files) -> Judged {
    let mut findings = Vec::new();
    let resolved = resolve(sources, profile, now_ms, files, &mut findings);
    let case = Case { resolved: &resolved, sources, files, now_ms };
    rules::judge(&case, &mut findings);
    let routes = routes::read(&resolved, files, &mut findings);
    let mut effective: Vec<EffectiveRow> =
        settings().filter_map(|setting| resolved.effective(setting.name)).map(row).collect();
    effective.extend(routes.iter().enumerate().map(|(index, route)| EffectiveRow {
        setting: format!("routes[{index}]"),
        value: routes::summary(route),
        origin: Origin::File(resolved.file.path.clone()),
        masked: false,
    }));
    let config = build(&resolved, sources, routes);
    if config.is_none() && !findings.iter().any(|finding| finding.level == Level::Error) {
        findings.push(Finding::error(
            "settings",
            "a combination that no rule refused and that is not complete",
            "complete settings",
            "Please report this with the names of the settings that you gave.",
        ));
    }
    if let Some(config) = &config
        && let Some(row) = effective.iter_mut().find(|row| row.setting == "EDGE_PUBLIC_URL")
    {
        row.value.clone_from(&config.public_url);
    }
    if let Some(config) = &config
        && let Some(row) = effective.iter_mut().find(|row| row.setting == "AGENT_SECRET_CACHE_MS")
        && row.value.is_empty()
    {
        row.value = config.agent.secret_cache_ms.to_string();
    }
    Judged { config, effective, findings }
}

fn row(effective: &Effective) -> EffectiveRow {
    let hidden = effective.shown.is_none() && !matches!(effective.outcome, Outcome::Unset);
    let partly = effective.setting.secrecy == Secrecy::SecretUrl
        && effective.shown.as_ref().is_some_and(|shown| shown.contains("***"));
    EffectiveRow {
        setting: effective.setting.name.to_owned(),
        value: match &effective.shown {
            Some(shown) => shown.clone(),
            None if hidden => "***".to_owned(),
            None => String::new(),
        },
        origin: effective.origin.clone(),
        masked: hidden || partly,
    }
}
