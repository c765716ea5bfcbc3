//! Typed looks at resolved settings. `None` is a setting that is unset or unfit; the latter has its finding.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::resolve::{Effective, Outcome, Resolved};
use crate::stores::RedisUrl;
use crate::value::{DatabaseUrl, KekReference, NotifyUrl, Value};
use crate::{BodySignature, SecretText};

/// Makes one accessor per variant of [`Value`].
macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $variant:ident => $type:ty;)*) => {
        impl Resolved {
            $($(#[$doc])* pub(crate) fn $name(&self, setting: &str) -> Option<$type> {
                let Value::$variant(value) = self.value(setting)? else { return None };
                Some(value.clone())
            })*
        }
    };
}

accessors! {
    truth: Bool => bool;
    number: Number => u64;
    text: Text => String;
    tokens: Tokens => Vec<String>;
    secret: Secret => SecretText;
    address: Listen => SocketAddr;
    path: Path => PathBuf;
    networks: Networks => Vec<IpNet>;
    body_signature: BodySignature => BodySignature;
    device_proof: DeviceProof => crate::DeviceProof;
    jwt_alg: JwtAlg => crate::JwtAlg;
    log_format: LogFormat => crate::LogFormat;
    kek: Kek => KekReference;
    database: Database => DatabaseUrl;
    notify: Notify => NotifyUrl;
    redis: Redis => RedisUrl;
}

impl Resolved {
    pub(crate) fn effective(&self, setting: &str) -> Option<&Effective> {
        self.by_name.get(setting)
    }

    /// Whether somebody gave it, fit or not.
    pub(crate) fn is_given(&self, setting: &str) -> bool {
        self.effective(setting).is_some_and(Effective::is_given)
    }

    /// The value as a finding shows it.
    pub(crate) fn found(&self, setting: &str) -> String {
        self.effective(setting).map_or_else(|| "nothing".to_owned(), Effective::found)
    }

    /// A number that is known to fit 32 bits by the bounds of its kind.
    pub(crate) fn small(&self, setting: &str) -> Option<u32> {
        u32::try_from(self.number(setting)?).ok()
    }

    fn value(&self, setting: &str) -> Option<&Value> {
        match &self.effective(setting)?.outcome {
            Outcome::Fit(value) => Some(value),
            Outcome::Unset | Outcome::Unfit => None,
        }
    }
}
