//! How one row of the table of settings is written down.

use crate::Profile;

/// One setting: all that parsing, the reference page, `edgeward config` and `edgeward check` know about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The name in the environment.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) development: Preset,
    pub(crate) production: Preset,
    /// One sentence for the reference page.
    pub(crate) doc: &'static str,
    /// The rule beyond the form, for the reference page.
    pub(crate) rule: &'static str,
    pub(crate) mark: Mark,
    pub(crate) secrecy: Secrecy,
    /// What this build lacks to honour it, if it is known by name only.
    pub(crate) later: Option<&'static str>,
}

/// What holds when a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preset {
    /// This value, in the form that the environment takes.
    Value(&'static str),
    /// Nothing.
    Unset,
    /// Made from other settings; the text says how.
    Derived(&'static str),
}

/// What production makes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing beyond the rule of every profile.
    Free,
    /// Refuses to start with anything else.
    MustBe(&'static str),
    /// Warns of anything else.
    ShouldBe(&'static str),
    /// Refuses to start without it.
    MustBeSet,
    /// Refuses to start by a rule that looks at more than this setting's value.
    Ruled,
}

/// Whether, and how, a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// As it is.
    Public,
    /// As it is, unless there is an `@` in it.
    PublicUrl,
    /// A URL that may hold a password: without that, or its scheme only if it cannot be read.
    SecretUrl,
    /// A reference to a secret; shown if it has a known form.
    Reference,
    /// Never.
    Secret,
}

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Profile,
    Bool,
    BodySignature,
    DeviceProof,
    JwtAlg,
    LogFormat,
    /// Milliseconds, both bounds included.
    Millis {
        min: u64,
        max: u64,
    },
    /// A whole number, both bounds included.
    Count {
        min: u64,
        max: u64,
    },
    /// 1 to 256 printable ASCII characters, blanks allowed inside.
    Text,
    /// 1 to 128 printable ASCII characters without blanks and commas.
    Token,
    /// Tokens with commas between them.
    Tokens,
    Secret {
        min_bytes: usize,
    },
    PublicUrl,
    BasePath,
    Listen,
    Path,
    Networks,
    /// `https`, or `http` to loopback.
    ConfidentialUrl,
    HttpUrl,
    RedisUrl,
    DatabaseUrl,
    /// A PostgreSQL URL, or `none`.
    NotifyUrl,
    /// A PostgreSQL schema that is this program's own.
    Schema,
    /// What keys in Redis begin with.
    KeyPrefix,
    /// 1 to 64 printable ASCII characters without blanks and commas.
    NodeName,
    Kek,
}

/// The longest duration that is taken: ten years.
const LONGEST_MS: u64 = 10 * 365 * 24 * 3_600_000;

impl Kind {
    pub(crate) const fn millis(min: u64, max: u64) -> Self {
        Self::Millis { min, max }
    }

    pub(crate) const fn millis_from(min: u64) -> Self {
        Self::millis(min, LONGEST_MS)
    }

    pub(crate) const fn count(min: u64) -> Self {
        Self::Count { min, max: 1_000_000_000 }
    }
}

impl Setting {
    /// A row with the same default in both profiles and nothing else to it.
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        preset: Preset,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            development: preset,
            production: preset,
            doc,
            rule: "",
            mark: Mark::Free,
            secrecy: Secrecy::Public,
            later: None,
        }
    }

    pub(crate) const fn in_production(mut self, preset: Preset) -> Self {
        self.production = preset;
        self
    }

    pub(crate) const fn rule(mut self, rule: &'static str) -> Self {
        self.rule = rule;
        self
    }

    pub(crate) const fn mark(mut self, mark: Mark) -> Self {
        self.mark = mark;
        self
    }

    pub(crate) const fn secrecy(mut self, secrecy: Secrecy) -> Self {
        self.secrecy = secrecy;
        self
    }

    pub(crate) const fn later(mut self, what: &'static str) -> Self {
        self.later = Some(what);
        self
    }

    pub(crate) fn preset(&self, profile: Profile) -> Preset {
        match profile {
            Profile::Development => self.development,
            Profile::Production => self.production,
        }
    }

    /// The name under which the value may come from a mounted file, for settings that hold a secret.
    pub(crate) fn secret_file_name(&self) -> Option<String> {
        match self.secrecy {
            Secrecy::Secret | Secrecy::SecretUrl => Some(format!("{}_FILE", self.name)),
            Secrecy::Public | Secrecy::PublicUrl | Secrecy::Reference => None,
        }
    }
}
