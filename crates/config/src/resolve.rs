//! From sources to one value per setting: precedence, origin, form and the marks of the table.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::file::{self, FileSettings};
use crate::finding::quoted;
use crate::nearest::nearest;
use crate::setting::{Mark, Preset, Secrecy, Setting};
use crate::sources::{Files, secret_text};
use crate::stores::{PostgresUrl, RedisUrl};
use crate::table::{RETIRED, known_names, settings};
use crate::url::known_scheme;
use crate::value::{self, Unfit, Value};
use crate::{Finding, Profile, Sources};

/// Where an effective value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The same in every profile.
    Default,
    /// This profile's own.
    ProfileDefault(Profile),
    /// The settings file.
    File(PathBuf),
    /// The environment.
    Environment,
    /// A flag.
    Flag,
    /// A mounted file that `NAME_FILE` names.
    SecretFile(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::ProfileDefault(profile) => write!(f, "{profile} default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
            Self::SecretFile(path) => write!(f, "secret file {}", path.display()),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What became of a setting.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Unset,
    /// Given, and of no use; there is a finding about it.
    Unfit,
    Fit(Value),
}

/// A setting after all sources were asked.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    pub(crate) setting: &'static Setting,
    pub(crate) outcome: Outcome,
    pub(crate) origin: Origin,
    /// As it may be printed; `None` for not at all.
    pub(crate) shown: Option<String>,
}

impl Effective {
    /// Whether somebody gave it.
    pub(crate) fn is_given(&self) -> bool {
        !matches!(self.origin, Origin::Default | Origin::ProfileDefault(_))
    }

    /// The value as a finding shows it.
    pub(crate) fn found(&self) -> String {
        match (&self.shown, &self.outcome) {
            (None, Outcome::Unset) => "nothing".to_owned(),
            (None, Outcome::Unfit | Outcome::Fit(_)) => {
                format!("a value that is not shown ({})", self.origin)
            }
            (Some(shown), _) => format!("{} ({})", quoted(shown), self.origin),
        }
    }
}

/// All settings after all sources were asked. No `Debug`: it holds secrets.
pub(crate) struct Resolved {
    pub(crate) profile: Profile,
    pub(crate) by_name: BTreeMap<&'static str, Effective>,
    pub(crate) file: FileSettings,
}

/// Asks all sources. `profile` overrides what they say of the profile.
pub(crate) fn resolve(
    sources: &Sources,
    profile: Option<Profile>,
    now_ms: i64,
    files: &dyn Files,
    findings: &mut Vec<Finding>,
) -> Resolved {
    let file = match &sources.file {
        Some((path, text)) => file::read(path, text, findings),
        None => FileSettings::default(),
    };
    let asked = Asked { sources, file: &file, files, now_ms };
    asked.refuse_unknown(findings);
    let mut by_name = BTreeMap::new();
    let mut chosen = profile.unwrap_or(Profile::Development);
    for setting in settings() {
        let effective = asked.ask(setting, chosen, findings);
        match (&effective.outcome, profile) {
            (Outcome::Fit(Value::Profile(said)), None) => chosen = *said,
            (Outcome::Fit(_) | Outcome::Unset | Outcome::Unfit, _) => {}
        }
        if let Some(finding) = against_mark(&effective, chosen) {
            findings.push(finding);
        }
        by_name.insert(setting.name, effective);
    }
    Resolved { profile: chosen, by_name, file }
}

/// Where a value was given, and the value, unless it could not be read.
type Given = (Origin, Option<Zeroizing<String>>);

/// The sources and what it takes to ask them.
struct Asked<'a> {
    sources: &'a Sources,
    file: &'a FileSettings,
    files: &'a dyn Files,
    now_ms: i64,
}

impl Asked<'_> {
    /// The value of one setting: of a flag, else of the environment, else of the file, else the profile's.
    fn ask(
        &self,
        setting: &'static Setting,
        profile: Profile,
        findings: &mut Vec<Finding>,
    ) -> Effective {
        let (origin, raw) = match (self.given(setting, findings), setting.preset(profile)) {
            (Some((origin, raw)), _) => (origin, raw),
            (None, Preset::Value(raw)) => {
                (default_origin(setting, profile), Some(Zeroizing::new(raw.to_owned())))
            }
            (None, Preset::Unset | Preset::Derived(_)) => {
                return Effective {
                    setting,
                    outcome: Outcome::Unset,
                    origin: default_origin(setting, profile),
                    shown: None,
                };
            }
        };
        let mut effective = Effective {
            setting,
            outcome: Outcome::Unfit,
            origin,
            shown: raw.as_ref().and_then(|raw| shown(setting.secrecy, raw)),
        };
        if let Some(raw) = raw {
            match self.fit(&effective, &raw) {
                Ok(value) => effective.outcome = Outcome::Fit(value),
                Err(finding) => findings.push(finding),
            }
        }
        effective
    }

    /// The value that a text is, or the finding that it is none.
    fn fit(&self, effective: &Effective, raw: &str) -> Result<Value, Finding> {
        let setting = effective.setting;
        let value = value::read(setting.kind, raw, self.now_ms);
        match (value, setting.later) {
            (Ok(_), Some(what)) if effective.is_given() => Err(Unfit::later(what, "Leave it out.")),
            (value, _) => value,
        }
        .map_err(|unfit| {
            let remedy =
                if raw.is_empty() { "Give it a value, or unset it." } else { "Correct it." };
            Finding::error(
                setting.name,
                effective.found(),
                unfit.expected,
                unfit.what_to_do.unwrap_or_else(|| remedy.to_owned()),
            )
        })
    }

    /// Where a value is given, and the value, unless it could not be read; then there is a finding.
    fn given(&self, setting: &Setting, findings: &mut Vec<Finding>) -> Option<Given> {
        let file_name = setting.secret_file_name();
        let layers = [
            (&self.sources.flags, Origin::Flag),
            (&self.sources.env, Origin::Environment),
            (&self.file.values, Origin::File(self.file.path.clone())),
        ];
        for (layer, origin) in layers {
            let direct = layer.get(setting.name);
            let path = file_name.as_ref().and_then(|name| layer.get(name));
            return Some(match (direct, path) {
                (None, None) => continue,
                (Some(raw), None) => (origin, Some(Zeroizing::new(raw.clone()))),
                (None, Some(path)) => self.mounted(setting, path, findings),
                (Some(_), Some(_)) => {
                    findings.push(Finding::error(
                        setting.name,
                        format!("it and {}_FILE together ({origin})", setting.name),
                        "one of the two",
                        "Remove one of them.",
                    ));
                    (origin, None)
                }
            });
        }
        None
    }

    fn mounted(&self, setting: &Setting, path: &str, findings: &mut Vec<Finding>) -> Given {
        let text = match secret_text(Path::new(path), self.files) {
            Ok(text) => Some(text),
            Err(why) => {
                findings.push(Finding::error(
                    format!("{}_FILE", setting.name),
                    format!("{}: {why}", quoted(path)),
                    "a file of text that can be read",
                    "Mount the secret there, or correct the path.",
                ));
                None
            }
        };
        (Origin::SecretFile(PathBuf::from(path)), text)
    }

    /// Names that are ours by their prefix and known to nobody, and names that are refused by name.
    fn refuse_unknown(&self, findings: &mut Vec<Finding>) {
        let known = known_names();
        let kek = self.sources.flags.get("EDGE_KEK").or_else(|| self.sources.env.get("EDGE_KEK"));
        let kek = kek.or_else(|| self.file.values.get("EDGE_KEK"));
        let kek_variable = kek.and_then(|kek| kek.strip_prefix("env:"));
        let env = self.sources.own_variables().map(|(name, _)| (name, Origin::Environment));
        let flags = self.sources.flags.keys().map(|name| (name.as_str(), Origin::Flag));
        let file = self
            .file
            .values
            .keys()
            .map(|name| (name.as_str(), Origin::File(self.file.path.clone())));
        for (name, origin) in flags.chain(env).chain(file) {
            if known.iter().any(|known| known == name) || kek_variable == Some(name) {
                continue;
            }
            findings.push(match RETIRED.iter().find(|retired| retired.name == name) {
                Some(retired) => Finding::error(
                    name,
                    format!("it is set ({origin})"),
                    retired.why,
                    retired.what_to_do,
                ),
                None => {
                    let near = nearest(name, known.iter().map(String::as_str)).unwrap_or_default();
                    Finding::error(
                        name,
                        format!("an unknown name ({origin})"),
                        "a known setting",
                        format!("Did you mean `{near}`? Otherwise remove it."),
                    )
                }
            });
        }
    }
}

/// What the table's mark makes of a value.
fn against_mark(effective: &Effective, profile: Profile) -> Option<Finding> {
    let name = effective.setting.name;
    if profile == Profile::Development || matches!(effective.outcome, Outcome::Unfit) {
        return None;
    }
    let is = |wanted: &str| effective.shown.as_deref() == Some(wanted);
    match effective.setting.mark {
        Mark::MustBe(wanted) if !is(wanted) => Some(Finding::error(
            name,
            effective.found(),
            format!("`{wanted}` in production"),
            format!("Set it to `{wanted}`, or leave it out."),
        )),
        Mark::ShouldBe(wanted) if !is(wanted) => Some(Finding::warning(
            name,
            effective.found(),
            format!("`{wanted}` in production"),
            format!("Set it to `{wanted}`, or leave it out."),
        )),
        Mark::MustBeSet if matches!(effective.outcome, Outcome::Unset) => Some(Finding::error(
            name,
            "nothing",
            format!("{} in production", value::expected(effective.setting.kind)),
            "Set it.",
        )),
        Mark::MustBe(_) | Mark::ShouldBe(_) | Mark::MustBeSet | Mark::Free | Mark::Ruled => None,
    }
}

fn default_origin(setting: &Setting, profile: Profile) -> Origin {
    if setting.development == setting.production {
        Origin::Default
    } else {
        Origin::ProfileDefault(profile)
    }
}

/// A value as it may be printed, if it may.
fn shown(secrecy: Secrecy, raw: &str) -> Option<String> {
    if raw.contains("-----BEGIN") {
        return None;
    }
    let scheme_only = || known_scheme(raw).map(|scheme| format!("{scheme}:…"));
    match secrecy {
        Secrecy::Public => Some(raw.to_owned()),
        Secrecy::PublicUrl if raw.contains('@') => scheme_only(),
        Secrecy::PublicUrl => Some(raw.to_owned()),
        Secrecy::SecretUrl if raw.starts_with("sqlite:") && !raw.contains(['@', '?']) => {
            Some(raw.to_owned())
        }
        Secrecy::SecretUrl if raw == "none" => Some(raw.to_owned()),
        Secrecy::SecretUrl => {
            PostgresUrl::masked(raw).or_else(|| RedisUrl::masked(raw)).or_else(scheme_only)
        }
        Secrecy::Reference => match raw.split_once(':') {
            Some(("file", _)) => Some(raw.to_owned()),
            Some(("env", name)) if value::is_variable(name) => Some(raw.to_owned()),
            Some((scheme @ ("awskms" | "vault"), _)) => Some(format!("{scheme}:…")),
            Some(_) | None => None,
        },
        Secrecy::Secret => None,
    }
}
